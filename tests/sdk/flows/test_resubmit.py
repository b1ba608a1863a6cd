"""Jobs that a real master gave up unstarted run after all, once, under new ids."""

from __future__ import annotations

import json

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import (
    ClientConfig,
    ConnectionLost,
    DagFailed,
    JobFailed,
    JobStatus,
    RequestRefused,
    SubmissionUnconfirmed,
    TitanJob,
    WaitTimedOut,
)
from titan_sdk.flows.core import Ask
from titan_sdk.flows.manifest import find_dag
from titan_sdk.flows.resubmit import Track, wait_for_tracked_dag, wait_for_tracked_job
from titan_sdk.flows.submit import submit_dag
from titan_sdk.session import Session
from titan_sdk.wire.jobs import parse_dag
from titan_sdk.wire.opcodes import Opcode


class Saturated(MasterModel):
    """A real master that gives up, unstarted, the jobs whose id is in ``gives_up``; the others complete."""

    def __init__(self, *gives_up: str, fails: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.gives_up = {f"DAG-{name}" for name in gives_up}
        self.fails = {f"DAG-{name}" for name in fails}
        self.on_submit = self.judge

    def judge(self, payload: str) -> str:
        lines = {line.job_id: line for line in parse_dag(payload)}
        over: dict[str, str] = {}
        while len(over) < len(lines):
            for job_id, line in lines.items():
                parents = {over.get(p, self.status.get(p, "NULL")) for p in line.parents}
                if job_id in over or "NULL" in parents:
                    continue
                waits = any(word != "COMPLETED" for word in parents)
                bad = job_id in self.gives_up | self.fails
                over[job_id] = "PENDING" if waits else "DEAD" if bad else "COMPLETED"
                if over[job_id] == "DEAD" and job_id in self.fails:
                    self.kv["log:" + job_id] = "it ran"
        for job_id, word in over.items():
            if word == "COMPLETED":
                self.complete(job_id)
        self.status.update(over)
        return "DAG_ACCEPTED"


@pytest.fixture
def session():
    return Session(ClientConfig())


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "job.py"
    path.write_text("pass")
    return lambda job_id, *parents, **options: TitanJob(job_id, str(path), parents=parents, **options)


def submitted(session, master, *jobs):
    runner = FlowRunner(master)
    return runner, Track(runner.run(submit_dag(session, "d", jobs, "agent")))


def test_a_job_that_was_never_started_is_submitted_under_a_new_id(session, job):
    runner, track = submitted(session, Saturated("a"), job("a"))
    report = runner.run(wait_for_tracked_job(session, track, 0, None, True, 3))
    assert (report.job_id, report.resubmitted_from, report.state) == ("a-again1", "a", JobStatus.COMPLETED)
    assert track.ref(0).job_id == "a-again1"
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 2


def test_it_is_given_up_after_so_many_times(session, job):
    runner, track = submitted(session, Saturated("a", "a-again1", "a-again2"), job("a"))
    with pytest.raises(
        JobFailed, match="job 'a-again2' was given up by the master without ever being started"
    ):
        runner.run(wait_for_tracked_job(session, track, 0, None, True, 2))
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 3


def test_one_whose_outcome_is_unknown_is_waited_for_and_not_sent_again(session, job):
    """The reply is lost and the master slow to show anything; by the next wait the job has run."""
    master = Saturated("a")
    runner, track = submitted(session, master, job("a"), job("b", "a", "x"), job("x"))
    arrived = []

    def lose(payload):
        arrived.append(payload)
        raise ConnectionLost("submit_dag: lost")

    master.on_submit = lose
    with pytest.raises(SubmissionUnconfirmed):
        runner.run(wait_for_tracked_dag(session, track, None, True, 3))
    master.judge(arrived[0])
    report = runner.run(wait_for_tracked_dag(session, track, None, True, 3))
    assert [(r.job_id, r.resubmitted_from, r.state) for r in report.jobs] == [
        ("a-again1", "a", JobStatus.COMPLETED),
        ("b-again1", "b", JobStatus.COMPLETED),
        ("x", None, JobStatus.COMPLETED),
    ]
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 2
    assert track.submission.jobs[1].parents == ("DAG-a-again1", "DAG-x")
    assert [j.job_id for j in runner.run(find_dag("d")).jobs] == ["a-again1", "b-again1", "x"]


def test_one_that_was_refused_is_sent_again_by_the_next_wait(session, job):
    master = Saturated("a")
    runner, track = submitted(session, master, job("a"))
    master.on_submit = lambda _: "ERROR: not now"
    with pytest.raises(RequestRefused, match="not now"):
        runner.run(wait_for_tracked_dag(session, track, None, True, 3))
    master.on_submit = master.judge
    assert runner.run(wait_for_tracked_dag(session, track, None, True, 3)).jobs[0].job_id == "a-again1"
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 3


def test_a_wait_that_is_cut_off_while_it_submits_is_taken_up_where_it_was(session, job):
    """By the end of an asyncio.timeout, say."""
    master = Saturated("a")
    runner, track = submitted(session, master, job("a"))
    flow = wait_for_tracked_dag(session, track, None, True, 3)
    step = next(flow)
    while not (isinstance(step, Ask) and step.call.opcode is Opcode.SUBMIT_DAG):
        step = flow.send(runner._do(step))
    runner._do(step)
    flow.close()
    assert not track.is_taken
    assert runner.run(wait_for_tracked_dag(session, track, None, True, 3)).jobs[0].job_id == "a-again1"
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 2


def test_zero_resubmits_reports_it(session, job):
    runner, track = submitted(session, Saturated("a"), job("a"))
    report = runner.run(wait_for_tracked_job(session, track, 0, 30, False, 0))
    assert report.never_started
    assert (report.job_id, report.resubmitted_from) == ("a", None)


def test_what_waits_goes_along_and_what_has_run_does_not(session, job):
    master = Saturated("b")
    jobs = [job("a"), job("b", "a"), job("c", "b", "a"), job("d", "c"), job("e", "a")]
    runner, track = submitted(session, master, *jobs)
    report = runner.run(wait_for_tracked_dag(session, track, 60, True, 3))
    assert [r.job_id for r in report.jobs] == ["a", "b-again1", "c-again1", "d-again1", "e"]
    assert report["c"].resubmitted_from == "c"
    assert report["c-again1"] is report["c"]
    again = parse_dag(runner.sent(Opcode.SUBMIT_DAG)[1])
    assert {line.job_id: line.parents for line in again} == {
        "DAG-b-again1": (),  # a real master would wait for ever for the completed parent
        "DAG-c-again1": ("DAG-b-again1",),
        "DAG-d-again1": ("DAG-c-again1",),
    }
    assert (master.status["DAG-c"], master.status["DAG-d"]) == ("CANCELLED", "CANCELLED")
    found = runner.run(find_dag("d"))
    assert [(j.job_id, j.first_id) for j in found.jobs][:2] == [("a", None), ("b-again1", "b")]
    assert found.jobs[2].parents == ("DAG-b-again1", "DAG-a")


def test_what_is_below_another_failure_stays(session, job):
    runner, track = submitted(
        session, Saturated("a", fails=("x",)), job("a"), job("x"), job("both", "a", "x")
    )
    with pytest.raises(DagFailed, match="job 'x' failed") as failure:
        runner.run(wait_for_tracked_dag(session, track, None, True, 3))
    assert [r.job_id for r in failure.value.dag_report.jobs] == ["a-again1", "x", "both"]


def test_a_job_that_left_a_log_is_not_repeated(session, job):
    runner, track = submitted(session, Saturated(fails=("a",)), job("a"))
    report = runner.run(wait_for_tracked_dag(session, track, None, False, 3)).jobs[0]
    assert not report.never_started
    assert (report.reason, report.log_tail) == ("it left no record, but a log", "it ran")
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 1


def test_the_launchers_own_words_are_the_reason(session, job):
    master = Saturated("a")
    runner, track = submitted(session, master, job("a"))
    master.kv["log:DAG-a"] = "x\ntitan-runtime: this worker has no Python\n"
    report = runner.run(wait_for_tracked_dag(session, track, None, False, 3)).jobs[0]
    assert report.reason == "this worker has no Python"


def test_a_store_that_is_down_proves_nothing(session, job):
    master = Saturated("a")
    runner, track = submitted(session, master, job("a"))
    master.kv.clear()
    report = runner.run(wait_for_tracked_dag(session, track, None, False, 3)).jobs[0]
    assert not report.never_started
    assert report.reason == "it left no record, and the master's store does not answer"


def test_a_second_time_counts_on_from_the_first(session, job):
    runner, track = submitted(session, Saturated("a", "a-again1"), job("a"))
    report = runner.run(wait_for_tracked_dag(session, track, None, True, 3)).jobs[0]
    assert (report.job_id, report.resubmitted_from) == ("a-again2", "a")


def test_a_gate_asks_under_its_new_id(session, job):
    master = Saturated("hitl-gate-a")
    runner, track = submitted(session, master, job("a", hitl_message="Go?"), job("b", "a"))
    report = runner.run(wait_for_tracked_dag(session, track, None, True, 3))
    assert [r.job_id for r in report.jobs] == ["a", "hitl-gate-a-again1", "b-again1"]
    assert master.kv["titan:hitl:message:hitl-gate-a-again1"] == "Go?"
    assert track.submission.source[-2].argv[0] == "hitl-gate-a-again1"


def test_nothing_is_repeated_where_it_cannot_be(session, job):
    runner, track = submitted(session, Saturated("a" * 200), job("a" * 200))
    assert runner.run(wait_for_tracked_dag(session, track, None, False, 3)).jobs[0].never_started
    runner, track = submitted(session, Saturated("a"), job("a"))
    followed = Track(runner.run(find_dag("d")))
    assert runner.run(wait_for_tracked_dag(session, followed, None, False, 3)).jobs[0].never_started
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 1


def test_of_two_that_wait_one_submits(session, job):
    runner, track = submitted(session, Saturated("a"), job("a"))
    seen = track.submission
    assert track.take(seen)
    outcome = _released_late(wait_for_tracked_dag(session, track, 30, True, 1000))
    with pytest.raises(WaitTimedOut):
        runner.run(outcome)
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 1


def _released_late(flow):
    """Drive a flow that waits for another thread, and let go after a while without a result."""
    outcome, error = None, None
    for _ in range(200):
        try:
            outcome = yield (flow.throw(error) if error else flow.send(outcome))
        except StopIteration as end:
            return end.value
    raise WaitTimedOut("still waiting")


def test_a_record_that_appears_late_is_read(session, job):
    master = Saturated("a")
    _, track = submitted(session, master, job("a"))
    key = f"titan:run:DAG-a:{track.ref(0).nonce}:state"
    record = {
        "v": 1, "state": "failed", "attempt": 0, "token": "t", "worker": "w", "host": "h", "pid": 1,
        "heartbeat_at": 1.0, "reason": "refused",
    }  # fmt: skip

    def answer(call):
        if call.opcode is Opcode.GET_LOGS:
            master.kv[key] = json.dumps(record)
        return master(call)

    late = FlowRunner(answer)
    assert late.run(wait_for_tracked_dag(session, track, None, False, 3)).jobs[0].reason == "refused"


def test_the_one_that_waits_goes_on_with_what_the_other_submitted(session, job):
    runner, track = submitted(session, Saturated("a"), job("a"))
    other = Track(track.submission)
    runner.run(wait_for_tracked_dag(session, other, None, True, 3))
    assert track.take(track.submission)

    def until_the_other_is_done():
        flow, outcome, steps = wait_for_tracked_dag(session, track, None, True, 3), None, 0
        while True:
            try:
                outcome = yield flow.send(outcome)
            except StopIteration as end:
                return end.value
            steps += 1
            if steps == 40:
                track.submission = other.submission
                track.release()

    assert runner.run(until_the_other_is_done()).jobs[0].job_id == "a-again1"


@pytest.mark.parametrize("change", ["other code", "gone", "unreadable"])
def test_a_script_that_has_changed_meanwhile_is_not_submitted_in_its_place(session, job, tmp_path, change):
    runner, track = submitted(session, Saturated("a"), job("a"))
    path = tmp_path / "job.py"
    path.unlink()
    if change == "other code":
        path.write_text("print('other code')")
    elif change == "unreadable":
        path.mkdir()
    report = runner.run(wait_for_tracked_job(session, track, 0, None, False, 3))
    assert report.never_started
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 1
