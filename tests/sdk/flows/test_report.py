"""Results and log tails as the runtime's record promises them, or an error that says what is missing."""

from __future__ import annotations

import datetime
import hashlib
import json
import time

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, CorruptData, JobStatus, NotFound, ResultUnavailable, TitanJob, values
from titan_sdk.flows.report import JobRecord, JobRef, job_report, job_result, own_status, read_job_record
from titan_sdk.flows.submit import submit_dag
from titan_sdk.flows.wait import WaitTarget, dag_report, wait_for_dag, wait_for_job
from titan_sdk.model.server import ServerInfo
from titan_sdk.runtime import reader
from titan_sdk.session import Session
from titan_sdk.wire.opcodes import Opcode

NONCE = "0123456789abcdef"
REF = JobRef("a", NONCE)
SESSION = Session(ClientConfig())
RUN = f"titan:run:DAG-a:{NONCE}"


@pytest.fixture
def master():
    made = MasterModel()
    made.status["DAG-a"] = "COMPLETED"
    return made


def record(master, state="succeeded", **fields):
    found = {"attempt": 1, "token": "t", "worker": "w", "host": "h", "pid": 1, "heartbeat_at": 1.0}
    master.kv[f"{RUN}:state"] = json.dumps({"v": 1, "state": state, **found, **fields})


def result(text, chunks=2):
    return {"chunks": chunks, "bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_a_result_is_put_together_from_its_slices(master):
    record(master, result=result('[1, "ab"]'))
    master.kv |= {
        f"{RUN}:result:{i}": json.dumps({"v": 1, "data": part}) for i, part in enumerate(['[1, "', 'ab"]'])
    }
    assert FlowRunner(master).run(job_result(SESSION, REF)) == [1, "ab"]
    report = FlowRunner(master).run(job_report(SESSION, REF, with_result=False))
    assert (report.has_result, report.result) == (True, None)


def test_a_report_and_a_result_have_the_types_that_the_job_gave(master):
    given = {"day": datetime.date(2026, 3, 1), "pair": (1, b"x")}
    text = json.dumps(values.dump(given))
    record(master, result={**result(text, 0), "text": text})
    assert FlowRunner(master).run(job_result(SESSION, REF)) == given
    assert FlowRunner(master).run(job_report(SESSION, REF)).result == given


def test_a_slice_that_is_gone_is_named(master):
    record(master, result=result("12"))
    master.kv[f"{RUN}:result:0"] = '{"v":1,"data":"1"}'
    with pytest.raises(CorruptData, match="part 2 of 2 is missing in TitanStore"):
        FlowRunner(master).run(job_result(SESSION, REF))


def test_there_is_no_result_of_an_unknown_job_or_without_one(master):
    record(master)
    with pytest.raises(ResultUnavailable, match="completed without one"):
        FlowRunner(master).run(job_result(SESSION, REF))
    with pytest.raises(NotFound, match="does not know the job 'b'"):
        FlowRunner(master).run(job_result(SESSION, JobRef("b")))


def test_the_tail_of_a_log_is_as_many_chunks_as_it_takes(master):
    master.status["DAG-a"] = "DEAD"
    record(master, "failed", log_chunks=4, exit_code=1)
    for index, text in enumerate(["never read\n", "a\n" * 15, "b\n" * 15]):
        master.kv[f"{RUN}:log:{index}"] = json.dumps({"v": 1, "attempt": 1, "text": text})
    runner = FlowRunner(master)
    report = runner.run(job_report(SESSION, REF))
    assert report.log_tail.splitlines() == ["a"] * 5 + ["b"] * 15
    assert not [key for _, key in runner.calls if key == f"{RUN}:log:0"]


def test_a_record_without_chunks_leaves_the_masters_log(master):
    master.status["DAG-a"] = "DEAD"
    record(master, "running")
    master.kv["log:DAG-a"] = "x\ny\n"
    report = FlowRunner(master).run(job_report(SESSION, REF))
    assert report.log_tail == "x\ny"
    assert (
        report.reason
        == "its runtime ended without a final record: killed from outside, or its worker was lost"
    )


def test_a_tail_may_be_the_whole_log(master):
    master.status["DAG-a"] = "DEAD"
    record(master, "failed", log_chunks=2, exit_code=1)
    master.kv[f"{RUN}:log:0"] = json.dumps({"v": 1, "attempt": 1, "text": "first\n"})
    assert FlowRunner(master).run(job_report(SESSION, REF)).log_tail == "first"


def test_there_is_no_result_of_a_job_that_has_not_completed(master):
    master.status["DAG-a"] = "RUNNING"
    record(master, "running")
    with pytest.raises(ResultUnavailable, match="a result exists once the job has completed"):
        FlowRunner(master).run(job_result(SESSION, REF))


def test_a_job_that_was_submitted_without_a_runtime_is_asked_for_no_record(master):
    record(master, state="failed")
    master.kv["titan:job:DAG-a"] = json.dumps({"nonce": NONCE})  # of an earlier submission of the id
    runner = FlowRunner(master)
    report = runner.run(job_report(SESSION, JobRef("a", plain=True)))
    assert (report.state, report.attempts, report.has_result) == ("COMPLETED", 0, False)
    assert [opcode for opcode, _ in runner.calls] == [Opcode.GET_JOB_STATUS]


def told(word, state=None, *, trusted=False, age=0.0, **fields):
    """The status of a submission of which this is the record."""
    found = {
        "attempt": 1,
        "token": "t",
        "worker": "w",
        "host": "h",
        "pid": 1,
        "heartbeat_at": time.time() - age,
    }
    text = json.dumps({"v": 1, "state": state, **found, **fields})
    return own_status(JobStatus(word), reader.parse_state(text) if state else None, trusted=trusted)


@pytest.mark.parametrize("word", ["COMPLETED", "DEAD", "CANCELLED", "UNKNOWN"])
def test_on_a_real_master_an_end_is_what_the_submissions_own_record_says(word):
    assert told(word, "succeeded") == "COMPLETED"
    assert told(word, "failed", cancelled=True) == "CANCELLED"
    assert told(word, "failed") == ("CANCELLED" if word == "CANCELLED" else "DEAD")
    if word != "CANCELLED":
        assert told(word, "running") == "RUNNING"
        assert told(word, "running", age=1000.0) == "DEAD"
    assert told(word) == ("PENDING" if word == "COMPLETED" else word)


@pytest.mark.parametrize("word", ["PENDING", "RUNNING"])
def test_a_job_that_the_master_has_to_run_again_is_not_over_with_its_attempt(word):
    assert told(word, "failed") == told(word, "succeeded") == told(word, "running") == told(word) == word
    assert told(word, "failed", cancelled=True) == "CANCELLED", "nothing starts again after that"


def test_the_bundled_masters_cancel_is_the_jobs_end_whatever_it_says_last():
    assert told("CANCELLED", "succeeded", trusted=True) == "CANCELLED"
    assert told("COMPLETED", trusted=True) == "COMPLETED"


def test_what_a_later_cancel_needs_to_know_of_a_plain_job_stands_in_its_record(tmp_path):
    (tmp_path / "a.py").write_text("pass")
    script = str(tmp_path / "a.py")
    runner = FlowRunner(MasterModel())
    jobs = [
        TitanJob("serve", script, "SERVICE", port=9000),
        TitanJob("late", script, runtime=False, delay="10m", parents=["plain"]),
        TitanJob("plain", script, runtime=False),
    ]
    runner.run(submit_dag(SESSION, "d", jobs))
    serve, late, plain = (runner.run(read_job_record(job.job_id)) for job in jobs)
    assert (serve, plain) == (JobRecord(None, service=True), JobRecord(None))
    assert late.parents == ("DAG-plain",)
    assert 0 < late.due_at - time.time() <= 600


@pytest.fixture
def telling(master):
    """A bundled master whose WAIT brings reports, and a client that knows it."""
    server = ServerInfo("bundled", "1", frozenset({"wait", "reports"}))
    return FlowRunner(master), Session(ClientConfig(), server=server)


def test_one_answer_brings_the_report_with_a_small_result(master, telling):
    runner, session = telling
    master.kv["titan:job:DAG-a"] = json.dumps({"nonce": NONCE})
    record(master, result={**result("[1]", 0), "text": "[1]"})
    assert runner.run(wait_for_job(session, REF)).result == [1]
    assert [opcode for opcode, _ in runner.calls] == [Opcode.WAIT]
    assert runner.run(job_report(session, JobRef("a"))).result == [1]
    assert [opcode for opcode, _ in runner.calls] == [Opcode.WAIT] * 2


def test_a_report_of_a_job_that_runs_or_is_unknown_does_not_wait(master, telling):
    runner, session = telling
    master.status["DAG-a"] = "RUNNING"
    record(master, "running", progress={"fraction": 0.5, "text": "half"})
    assert runner.run(job_report(session, REF)).progress == (0.5, "half")
    assert runner.run(job_report(session, JobRef("b"))).state is JobStatus.UNKNOWN
    assert {opcode for opcode, _ in runner.calls} == {Opcode.WAIT}


def test_the_tail_of_a_dead_jobs_log_comes_with_the_report(master, telling):
    _, session = telling
    master.status["DAG-a"] = "DEAD"
    record(master, "failed", exit_code=1, log="master")
    found = {"nonce": NONCE, "record": master.kv[f"{RUN}:state"], "tail": "the end"}

    def answer(call):
        return json.dumps({"states": {"DAG-a": "DEAD"}, "reports": {"DAG-a": found}})

    assert FlowRunner(answer).run(job_report(session, REF)).log_tail == "the end"
    del found["tail"]
    master.kv["log:DAG-a"] = "as it is\n"
    runner = FlowRunner(lambda call: answer(call) if call.opcode is Opcode.WAIT else master(call))
    assert runner.run(job_report(session, REF)).log_tail == "as it is"


def test_reports_for_which_an_answer_had_no_room_are_asked_for_again(master, telling):
    _, session = telling
    ids = ["DAG-a", "DAG-b", "DAG-c"]
    master.status = dict.fromkeys(ids, "COMPLETED")
    for job_id in ids:
        master.leave_success(job_id, NONCE)

    def answer(call):
        reply = json.loads(master(call))
        if call.opcode is Opcode.WAIT:
            # Room for one of "a" and "b"; never for "c".
            left = [job_id for job_id in reply["reports"] if job_id != "DAG-c"][:1]
            reply["reports"] = {job_id: reply["reports"][job_id] for job_id in left}
        return json.dumps(reply)

    targets = [WaitTarget(JobRef(job_id, NONCE)) for job_id in ids]
    for flow in (wait_for_dag(session, "d", targets), dag_report(session, "d", targets)):
        runner = FlowRunner(answer)
        assert [job.attempts for job in runner.run(flow).jobs] == [1, 1, 1]
        assert len(runner.sent(Opcode.WAIT)) == 4  # of all, of two, of one, and of that one alone
        assert runner.sent(Opcode.KV_GET) == [f"titan:run:DAG-c:{NONCE}:state"]
