"""Submitting: nothing is sent twice, nothing is believed without proof."""

from __future__ import annotations

import json

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import (
    ClientConfig,
    ConnectFailed,
    ConnectionLost,
    InvalidDag,
    InvalidJob,
    PayloadTooLarge,
    StoreUnavailable,
    SubmissionUnconfirmed,
    TimedOut,
    TitanJob,
)
from titan_sdk.flows.submit import submit_dag, submit_expanded
from titan_sdk.model.gates import add_gates
from titan_sdk.runtime.gate import GATE_SCRIPT
from titan_sdk.session import Session
from titan_sdk.wire.extensions import Submit
from titan_sdk.wire.jobs import parse_dag
from titan_sdk.wire.opcodes import Opcode

NONCE = "0123456789abcdef"


@pytest.fixture
def session():
    return Session(ClientConfig())


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "job.py"
    path.write_text("pass")
    return str(path)


def lost(_payload):
    raise ConnectionLost("submit_dag: lost")


def test_children_are_sent_before_their_parents(session, script):
    runner = FlowRunner(MasterModel())
    jobs = [TitanJob("a", script), TitanJob("b", script, parents=["a"]), TitanJob("c", script, parents=["b"])]
    runner.run(submit_dag(session, "d", jobs))
    (payload,) = runner.sent(Opcode.SUBMIT_DAG)
    assert [line.job_id for line in parse_dag(payload)] == ["DAG-c", "DAG-b", "DAG-a"]


def test_records_are_written_before_the_submit(session, script):
    runner = FlowRunner(MasterModel())
    runner.run(submit_dag(session, "d", [TitanJob("a", script)], nonce=NONCE))
    opcodes = [opcode for opcode, _ in runner.calls]
    last_record = len(opcodes) - 1 - opcodes[::-1].index(Opcode.KV_SET)
    assert last_record < opcodes.index(Opcode.SUBMIT_DAG)
    assert [payload.partition("|")[0] for payload in runner.sent(Opcode.KV_SET)] == [
        "titan:probe",
        "titan:job:DAG-a",
        f"titan:dag:d:{NONCE}",
        "titan:dag:d",
    ]


@pytest.mark.parametrize(
    ("message", "lost_of", "sentence"),
    [
        (None, "titan:job:", "did not keep the record 'titan:job:DAG-a'"),
        (None, "titan:dag:", "did not keep the record 'titan:dag:d:"),
        ("Go?", "titan:hitl:status:", "the approval gate 'hitl-gate-a' cannot be reset"),
    ],
)
def test_a_store_that_goes_away_after_it_has_answered_stops_the_submit(
    session, script, message, lost_of, sentence
):
    """A real master says OK to every write; a submission without its records would run and never be found."""
    master = MasterModel()

    def answer(call):
        if call.opcode is Opcode.KV_SET and call.payload.startswith(lost_of):
            return "OK"
        return master(call)

    runner = FlowRunner(answer)
    with pytest.raises(StoreUnavailable, match=f"{sentence}.*nothing was submitted|nothing was.*{sentence}"):
        runner.run(submit_dag(session, "d", [TitanJob("a", script, hitl_message=message)]))
    assert not runner.sent(Opcode.SUBMIT_DAG)


def test_a_lost_reply_is_settled_by_the_ids_states(session, script):
    master = MasterModel()

    def accept_and_lose(payload):
        master.accept(payload)
        lost(payload)

    master.on_submit = accept_and_lose
    runner = FlowRunner(master)
    submission = runner.run(submit_dag(session, "d", [TitanJob("a", script)], nonce=NONCE))
    assert submission.jobs[0].nonce == NONCE
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 1


def test_a_lost_submit_without_a_trace_is_unconfirmed_and_never_repeated(session, script):
    master = MasterModel(bundled=True)
    master.on_submit = lost
    runner = FlowRunner(master)
    with pytest.raises(
        SubmissionUnconfirmed, match=r"Ask get_job_status\(\) before submitting again"
    ) as error:
        runner.run(submit_dag(session, "d", [TitanJob("a", script)]))
    assert error.value.job_ids == ("DAG-a",)
    assert error.value.outcome_unknown
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 1


def test_an_old_state_of_the_id_proves_nothing(session, script):
    master = MasterModel(bundled=True)
    master.status["DAG-a"] = "COMPLETED"
    master.on_submit = lost
    with pytest.raises(SubmissionUnconfirmed):
        FlowRunner(master).run(submit_dag(session, "d", [TitanJob("a", script)]))


def test_a_rerun_that_is_over_before_anybody_asks_is_known_by_its_record(session, script):
    """Its state is what it was before; a second submission would run it twice."""
    master = MasterModel(bundled=True)
    master.status["DAG-a"] = "COMPLETED"

    def run_and_lose(payload):
        master.leave_success("DAG-a", NONCE)
        lost(payload)

    master.on_submit = run_and_lose
    runner = FlowRunner(master)
    assert runner.run(submit_dag(session, "d", [TitanJob("a", script)], nonce=NONCE)).run_id == NONCE
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 1


@pytest.mark.parametrize("reply", ["DAG_ACCEPTED", None])
def test_of_a_rerun_without_the_runtime_only_the_masters_word_tells(session, script, reply):
    """Where its state is what it was before: a real master's acceptance has to do, and without one nobody knows."""
    master = MasterModel()
    master.status["DAG-a"] = "COMPLETED"
    master.on_submit = lambda payload: reply or lost(payload)
    runner = FlowRunner(master)
    flow = submit_dag(session, "d", [TitanJob("a", script, runtime=False)])
    if reply:
        assert runner.run(flow).jobs[0].nonce is None
    else:
        with pytest.raises(SubmissionUnconfirmed):
            runner.run(flow)
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 1


def test_a_store_that_goes_down_with_the_reply_is_no_trace(session, script):
    master = MasterModel(bundled=True)
    master.status["DAG-a"] = "COMPLETED"

    def forget_and_lose(payload):
        master.status.clear()
        lost(payload)

    master.on_submit = forget_and_lose
    with pytest.raises(SubmissionUnconfirmed):
        FlowRunner(master).run(submit_dag(session, "d", [TitanJob("a", script)]))


def test_a_master_that_is_gone_after_it_accepted_leaves_the_outcome_unknown(session, script):
    """A ConnectFailed would say that nothing was sent."""
    master = MasterModel()

    def answer(call):
        if call.opcode is Opcode.GET_JOB_STATUS and runner.sent(Opcode.SUBMIT_DAG):
            raise ConnectFailed("get_job_status: cannot connect")
        return master(call)

    runner = FlowRunner(answer)
    with pytest.raises(
        SubmissionUnconfirmed, match="answered DAG_ACCEPTED but shows no trace of 'a'"
    ) as failure:
        runner.run(submit_dag(session, "d", [TitanJob("a", script)]))
    assert isinstance(failure.value.__cause__, ConnectFailed)


def test_a_master_that_is_away_for_a_moment_after_it_accepted_confirms(session, script):
    master, failures = MasterModel(), iter([ConnectionLost("lost"), TimedOut("late")])

    def answer(call):
        if call.opcode is Opcode.GET_JOB_STATUS and runner.sent(Opcode.SUBMIT_DAG):
            for failure in failures:
                raise failure
        return master(call)

    runner = FlowRunner(answer)
    assert runner.run(submit_dag(session, "d", [TitanJob("a", script)])).jobs[0].job_id == "a"


def test_acceptance_by_a_real_master_is_confirmed_id_by_id(session, script):
    master = MasterModel()
    master.on_submit = lambda payload: "DAG_ACCEPTED"
    with pytest.raises(SubmissionUnconfirmed, match="answered DAG_ACCEPTED but shows no trace of 'a'"):
        FlowRunner(master).run(submit_dag(session, "d", [TitanJob("a", script)]))


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("PENDING", "is PENDING on this master"),
        ("RUNNING", "is RUNNING"),
        ("CANCELLED", "was cancelled on this master"),
    ],
)
def test_an_id_in_use_is_refused(session, script, state, sentence):
    master = MasterModel()
    master.status["DAG-a"] = state
    runner = FlowRunner(master)
    with pytest.raises(InvalidDag, match=sentence):
        runner.run(submit_dag(session, "d", [TitanJob("a", script)]))
    assert not runner.sent(Opcode.SUBMIT_DAG)


@pytest.mark.parametrize(
    ("state", "bundled", "sentence"),
    [
        ("NULL", False, "neither in this DAG nor known"),
        ("DEAD", False, "DEAD, so the job would never run"),
        ("CANCELLED", True, "CANCELLED, so the job would never run"),
        ("RUNNING", False, "a real Titan can miss its end"),
    ],
)
def test_outside_parents_that_cannot_count_are_refused(session, script, state, bundled, sentence):
    master = MasterModel(bundled=bundled)
    master.status["DAG-p"] = state
    with pytest.raises(InvalidDag, match=sentence):
        FlowRunner(master).run(submit_dag(session, "d", [TitanJob("a", script, parents=["p"])]))


@pytest.mark.parametrize(("bundled", "sent"), [(False, ()), (True, ("DAG-p",))])
def test_a_completed_parent_is_left_out_where_it_would_block(session, script, bundled, sent):
    master = MasterModel(bundled=bundled)
    master.status["DAG-p"] = "COMPLETED"
    runner = FlowRunner(master)
    runner.run(submit_dag(session, "d", [TitanJob("a", script, parents=["p"])]))
    assert parse_dag(runner.sent(Opcode.SUBMIT_DAG)[0])[0].parents == sent


def test_arguments_an_archive_would_lose_without_the_runtime_are_refused(session):
    job = TitanJob("a", "p.zip/main.py", is_archive=True, args="x", runtime=False)
    with pytest.raises(InvalidJob, match="a real Titan drops them"):
        FlowRunner(MasterModel()).run(submit_dag(session, "d", [job]))


@pytest.mark.parametrize("bundled", [True, False])
def test_a_service_that_is_no_python_script_is_refused_where_no_worker_would_start_it(
    session, tmp_path, bundled
):
    path = tmp_path / "serve.sh"
    path.write_text("sleep 9")
    runner = FlowRunner(MasterModel(bundled=bundled))
    flow = submit_dag(session, "d", [TitanJob("a", str(path), "SERVICE", port=9000)])
    if bundled:
        assert runner.run(flow).jobs[0].nonce is None
        return
    with pytest.raises(InvalidJob, match=r"serve.sh' does not end in \.py; a real Titan starts no other"):
        runner.run(flow)
    assert not runner.sent(Opcode.SUBMIT_DAG)


def test_a_dag_over_one_frame_is_refused_before_anything_is_sent(session, script, tmp_path):
    path = tmp_path / "big.py"
    path.write_text("#" * 8_000_000)
    runner = FlowRunner(MasterModel())
    for jobs, advice in (
        (
            [TitanJob("a", str(path), runtime=False)],
            r"job 'a': its file, which only the runtime .* sends separately",
        ),
        (
            [TitanJob("a", script, params="x" * 12_000_000)],
            r"'a': its params \(12,000,002 char.*upload_file",
        ),
        (
            [TitanJob(f"a{i}", script, params="x" * 1_000_000) for i in range(9)],
            "submit it as several DAGs",
        ),
        (
            [TitanJob(f"a{i}", script, params="x" * 6_000_000) for i in range(2)],
            "submit it as several DAGs",
        ),
        (
            [TitanJob("a", str(path))],
            r"job 'a': its script '.*big.py' needs .*upload_file",
        ),
    ):
        with pytest.raises(PayloadTooLarge, match=advice):
            runner.run(submit_dag(session, "d", jobs))
    assert {payload.partition("|")[0] for payload in runner.sent(Opcode.KV_SET)} == {"titan:probe"}
    assert not runner.sent(Opcode.SUBMIT_DAG)


@pytest.mark.parametrize(
    "content", [None, "YWJj", "SERVER_ERROR: x"], ids=["gone", "another's", "unreadable"]
)
def test_assets_are_sent_where_the_master_has_not_got_them_whole(session, script, content):
    master = MasterModel()
    runner = FlowRunner(master)
    for job_id in ("a", "b"):
        runner.run(submit_dag(session, job_id, [TitanJob(job_id, script)]))
    assert len(runner.sent(Opcode.UPLOAD_ASSET)) == 1
    whole = dict(master.assets)
    for name in whole:
        master.assets.pop(name) if content is None else master.assets.update({name: content})
    runner.run(submit_dag(session, "c", [TitanJob("c", script)]))
    assert master.assets == whole


def test_without_the_runtime_the_line_is_upstreams(session, script):
    runner = FlowRunner(MasterModel())
    job = TitanJob(
        "j",
        script,
        args="--lr 0.01",
        parents=None,
        priority=7,
        requirement="GPU",
        runtime=False,
        affinity=True,
    )
    runner.run(submit_dag(session, "d", [job]))
    assert runner.sent(Opcode.SUBMIT_DAG) == ["j|RUN_PAYLOAD|job.py|--lr 0.01|cGFzcw==|GPU|7|0|[]|AFFINITY"]


@pytest.fixture
def whole():
    """A master that takes whole submissions."""
    master = MasterModel(bundled=True)
    master.features.append("submit")
    return master


def test_a_whole_submission_is_one_request(session, script, whole):
    runner = FlowRunner(whole)
    job = TitanJob("a", script, hitl_message="Go?", owner_lease=9)
    told = []
    jobs, messages = add_gates([job, TitanJob("b", script, runtime=False)], str(GATE_SCRIPT))
    flow = submit_expanded(session, "d", jobs, messages, nonce=NONCE, about_to_send=told.append)
    assert told == [runner.run(flow)]
    assert [opcode for opcode, _ in runner.calls] == [Opcode.HELLO, Opcode.SUBMIT]
    assert set(whole.kv) == {
        "titan:job:DAG-a",
        "titan:job:DAG-hitl-gate-a",
        f"titan:run:DAG-a:{NONCE}:lease",
        f"titan:dag:d:{NONCE}",
        "titan:dag:d",
        "titan:hitl:message:hitl-gate-a",
        "titan:hitl:status:hitl-gate-a",
    }
    assert Submit.decode(runner.sent(Opcode.SUBMIT)[0]).mark == f"titan:dag:d:{NONCE}"


@pytest.mark.parametrize(
    ("state", "sentence"),
    [("RUNNING", "job 'a' is RUNNING on this master"), ("CANCELLED", "'a' was cancelled")],
)
def test_an_id_that_the_master_finds_in_use_is_refused_as_before(session, script, whole, state, sentence):
    def answer(call):
        refused = json.dumps({"taken": False, "id": "DAG-a", "state": state})
        return refused if call.opcode is Opcode.SUBMIT else whole(call)

    with pytest.raises(InvalidDag, match=sentence) as error:
        FlowRunner(answer).run(submit_dag(session, "d", [TitanJob("a", script)]))
    assert (error.value.job_id, error.value.field) == ("a", "job_id")


@pytest.mark.parametrize("losses", [1, 2])
def test_a_whole_submission_is_sent_again_with_the_same_words(session, script, whole, losses):
    left = [lost] * losses
    whole.on_submit = lambda payload: left.pop()(payload) if left else whole.accept(payload)
    runner = FlowRunner(whole)
    flow = submit_dag(session, "d", [TitanJob("a", script)], nonce=NONCE)
    if losses == 1:
        assert runner.run(flow).run_id == NONCE
    else:
        with pytest.raises(SubmissionUnconfirmed, match=f"Submit it again with nonce='{NONCE}'") as error:
            runner.run(flow)
        assert (error.value.job_ids, error.value.outcome_unknown) == (("DAG-a",), True)
    first, second = runner.sent(Opcode.SUBMIT)
    assert first == second


def test_a_submission_that_is_too_large_with_its_values_goes_in_steps(session, script, whole, monkeypatch):
    job = TitanJob("a", script, params="x" * 300, owner_lease=9)
    asked = FlowRunner(whole)
    asked.run(submit_dag(session, "d", [job]))
    limit = len(asked.sent(Opcode.SUBMIT)[0]) - 100  # the times in it have no fixed length
    monkeypatch.setattr("titan_sdk.flows.submit.MAX_PAYLOAD", limit)
    whole.status.clear()
    runner, told = FlowRunner(whole), []
    flow = submit_expanded(session, "d", [job], {}, about_to_send=told.append)
    assert told == [runner.run(flow)]
    assert [opcode for opcode, _ in runner.calls][-1] is Opcode.SUBMIT_DAG
    assert not runner.sent(Opcode.SUBMIT)
    whole.status["DAG-a"] = "RUNNING"
    with pytest.raises(InvalidDag, match="job 'a' is RUNNING"):
        runner.run(submit_dag(session, "d", [job]))
