"""Waiting ends when nothing more can happen, and says which end it was."""

from __future__ import annotations

import json

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, DagFailed, JobFailed, JobStatus, NotFound, WaitTimedOut
from titan_sdk.flows import wait
from titan_sdk.flows.report import JobRef
from titan_sdk.flows.wait import WaitTarget, dag_report, job_statuses, wait_for_dag, wait_for_job
from titan_sdk.model.server import ServerInfo
from titan_sdk.session import Session
from titan_sdk.wire.extended_calls import RunReport
from titan_sdk.wire.opcodes import Opcode


def stepping(master: MasterModel, job_id: str, *words: str) -> FlowRunner:
    """The job's state moves on by one word with each question; the last one stays."""
    left = list(words)

    def answer(call):
        if call.payload == job_id and len(left) > 1:
            master.status[job_id] = left.pop(0)
        elif call.payload == job_id:
            master.status[job_id] = left[0]
        return master(call)

    return FlowRunner(answer)


def test_it_polls_fast_at_first_and_slower_later():
    runner = stepping(MasterModel(), "DAG-a", *["RUNNING"] * 30, "COMPLETED")
    report = runner.run(wait_for_job(Session(ClientConfig()), JobRef("a")))
    assert report.state is JobStatus.COMPLETED
    assert 10 < runner.time < 25


def test_a_failure_raises_with_its_report_or_returns_it():
    runner = stepping(MasterModel(), "DAG-a", "RUNNING", "DEAD")
    with pytest.raises(JobFailed, match="job 'a' failed") as error:
        runner.run(wait_for_job(Session(ClientConfig()), JobRef("a")))
    assert error.value.report.state is JobStatus.DEAD
    assert (
        runner.run(wait_for_job(Session(ClientConfig()), JobRef("a"), raise_on_failure=False)).state
        is JobStatus.DEAD
    )


def test_a_timeout_names_what_is_open():
    runner = stepping(MasterModel(), "DAG-a", "RUNNING")
    with pytest.raises(WaitTimedOut, match="not over after 3 s: a RUNNING; the work goes on"):
        runner.run(wait_for_job(Session(ClientConfig()), JobRef("a"), timeout=3))
    assert runner.time == pytest.approx(3)


def test_an_id_that_stays_unknown_ends_the_wait():
    runner = FlowRunner(MasterModel())
    with pytest.raises(NotFound, match="has not known the job 'a' for 15 s"):
        runner.run(wait_for_job(Session(ClientConfig()), JobRef("a")))


def test_a_moment_of_unknown_is_forgiven():
    runner = stepping(MasterModel(), "DAG-a", "RUNNING", *["NULL"] * 5, "RUNNING", "COMPLETED")
    assert runner.run(wait_for_job(Session(ClientConfig()), JobRef("a"))).state is JobStatus.COMPLETED


def test_descendants_that_a_real_master_leaves_pending_do_not_hold_the_wait():
    master = MasterModel()
    master.status = {"DAG-a": "DEAD", "DAG-b": "PENDING", "DAG-c": "PENDING", "DAG-d": "COMPLETED"}
    targets = [
        WaitTarget(JobRef("a")),
        WaitTarget(JobRef("b"), ("DAG-a",)),
        WaitTarget(JobRef("c"), ("DAG-b",)),
        WaitTarget(JobRef("d")),
    ]
    with pytest.raises(DagFailed, match=r"DAG 'd' failed: job 'a' failed \(and 2 more of 4 jobs\)") as error:
        FlowRunner(master).run(wait_for_dag(Session(ClientConfig()), "d", targets))
    report = error.value.dag_report
    assert report["c"].upstream_failed == ("a",)
    assert report.state is JobStatus.DEAD


def test_a_broken_record_is_an_error_and_not_a_guess():
    from titan_sdk import CorruptData

    master = MasterModel()
    master.status["DAG-a"] = "COMPLETED"
    master.kv["titan:job:DAG-a"] = "not json"
    with pytest.raises(CorruptData, match="which is no job record"):
        FlowRunner(master).run(wait_for_job(Session(ClientConfig()), JobRef("a")))


def test_many_states_are_one_request_where_the_master_has_wait():
    master = MasterModel()
    master.status["DAG-a"] = "RUNNING"
    session = Session(ClientConfig())
    assert FlowRunner(master).run(job_statuses(session, ["a", "DAG-b"])) == {
        "a": JobStatus.RUNNING,
        "DAG-b": JobStatus.UNKNOWN,
    }
    asked = []

    def answer(call):
        asked.append(call.name)
        return '{"states":{"DAG-a":"COMPLETED","DAG-b":"NULL"}}'

    session.server = ServerInfo("bundled", "1", frozenset({"wait"}))
    found = FlowRunner(answer).run(job_statuses(session, ["a", "b"], wait=5))
    assert found == {"a": JobStatus.COMPLETED, "b": JobStatus.UNKNOWN}
    assert asked == ["wait"]
    assert FlowRunner(answer).run(job_statuses(session, [])) == {}


def bundled(*answers):
    """A master with WAIT, which gives these answers one after the other."""
    left = list(answers)
    asked = []

    def answer(call):
        if call.name != "wait":
            return master(call)
        asked.append(json.loads(call.payload))
        return json.dumps({"states": left.pop(0)})

    master = MasterModel()
    runner = FlowRunner(answer)
    runner.asked = asked
    return runner, Session(ClientConfig(), server=ServerInfo("bundled", "1", frozenset({"wait"})))


def test_a_master_with_wait_holds_its_answer():
    runner, session = bundled({"DAG-a": "PENDING"}, {"DAG-a": "RUNNING"}, {"DAG-a": "COMPLETED"})
    assert runner.run(wait_for_job(session, JobRef("a"), timeout=7)).state is JobStatus.COMPLETED
    assert runner.time == 0
    assert [(found["seconds"], found.get("every")) for found in runner.asked] == [
        (7.0, True),
        (7.0, True),
        (7.0, True),
    ]


@pytest.mark.parametrize(
    ("first", "wait", "held"),
    [("RUNNING", 5, [0.0, 1.0]), ("RUNNING", 0.5, [0.0, 0.5]), ("DEAD", 5, [0.0, 0.0])],
)
def test_more_jobs_than_one_wait_may_name_are_several(monkeypatch, first, wait, held):
    monkeypatch.setattr("titan_sdk.flows.wait.MAX_WAIT_IDS", 2)
    runner, session = bundled({"DAG-a": first, "DAG-b": "RUNNING"}, {"DAG-c": "RUNNING"})
    found = runner.run(job_statuses(session, ["a", "b", "c"], wait=wait))
    assert found == {"a": JobStatus(first), "b": JobStatus.RUNNING, "c": JobStatus.RUNNING}
    assert [asked["ids"] for asked in runner.asked] == [["DAG-a", "DAG-b"], ["DAG-c"]]
    assert [asked["seconds"] for asked in runner.asked] == held


def test_a_dag_of_more_jobs_than_one_wait_may_name_is_waited_for(monkeypatch):
    monkeypatch.setattr("titan_sdk.flows.wait.MAX_WAIT_IDS", 1)
    runner, session = bundled(
        {"DAG-a": "RUNNING"}, {"DAG-b": "RUNNING"}, *[{"DAG-a": "COMPLETED"}, {"DAG-b": "COMPLETED"}]
    )
    targets = [WaitTarget(JobRef("a")), WaitTarget(JobRef("b"))]
    assert len(runner.run(wait_for_dag(session, "d", targets)).jobs) == 2
    assert [(asked["seconds"], asked.get("every")) for asked in runner.asked] == [
        (0.0, True),
        (1.0, True),
    ] * 2


def test_an_id_that_a_master_with_wait_does_not_know_is_asked_for_by_and_by():
    runner, session = bundled(*[{"DAG-a": "NULL"}] * 3, {"DAG-a": "COMPLETED"})
    assert runner.run(wait_for_job(session, JobRef("a"))).state is JobStatus.COMPLETED
    assert 0 < runner.time < 1


def test_a_report_does_not_wait():
    master = MasterModel()
    master.status = {"DAG-a": "COMPLETED", "DAG-b": "RUNNING"}
    report = FlowRunner(master).run(
        dag_report(Session(ClientConfig()), "d", [WaitTarget(JobRef("a")), WaitTarget(JobRef("b"))])
    )
    assert [job.state for job in report.jobs] == [JobStatus.COMPLETED, JobStatus.RUNNING]


def test_clients_that_began_at_one_moment_do_not_go_on_at_one_moment():
    times = set()
    for _ in range(5):
        runner = stepping(MasterModel(), "DAG-a", *["RUNNING"] * 5, "COMPLETED")
        runner.run(wait_for_job(Session(ClientConfig()), JobRef("a")))
        times.add(runner.time)
    assert len(times) == 5


@pytest.mark.parametrize("answers", [True, False])
def test_the_records_that_one_answer_had_no_room_for_are_asked_for_in_parts(monkeypatch, answers):
    monkeypatch.setattr(wait, "_REPORTS", 2)
    asked = []

    def answer(call):
        if call.opcode is Opcode.HELLO:
            return '{"server":"x","version":"1","features":["wait","reports"]}'
        request = json.loads(call.payload)
        asked.append((request["ids"], request["seconds"], request["reports"]))
        found = {job_id: {"nonce": nonce} for job_id, nonce in request["reports"].items()}
        return json.dumps({"states": {}, "reports": found if answers else {}})

    refs = {f"DAG-{name}": JobRef(name, nonce=f"nonce-{name}") for name in "abcd"}
    refs["DAG-p"] = JobRef("p", plain=True)
    had = {"DAG-b": RunReport("nonce-b", None)}
    known = FlowRunner(answer).run(wait._complete(Session(ClientConfig()), refs, had))
    parts = [
        (["DAG-a", "DAG-c"], 0.0, {"DAG-a": "nonce-a", "DAG-c": "nonce-c"}),
        (["DAG-d"], 0.0, {"DAG-d": "nonce-d"}),
    ]
    assert asked == (parts if answers else parts[:1])
    names = "abcd" if answers else "b"
    assert known == {f"DAG-{name}": RunReport(f"nonce-{name}", None) for name in names}
