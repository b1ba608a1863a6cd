"""A cancel says what becomes of the job, and touches nothing that has ended or never was."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, JobStatus, NotFound, StoreUnavailable
from titan_sdk.flows.cancel import cancel_dag, cancel_job
from titan_sdk.flows.report import JobRef
from titan_sdk.session import Session
from titan_sdk.wire.opcodes import Opcode

NONCE = "0123456789abcdef"
STATE, MARK = f"titan:run:DAG-a:{NONCE}:state", f"titan:run:DAG-a:{NONCE}:cancel"


@pytest.fixture
def master():
    made = MasterModel()
    made.status = {"DAG-done": "COMPLETED", "DAG-run": "RUNNING", "DAG-wait": "PENDING"}
    return made


def session():
    return Session(ClientConfig())


def record(master, **fields):
    master.kv["titan:job:DAG-a"] = json.dumps({"v": 1, **fields})


def cancel(runner, job_id="a", nonce=None):
    return runner.run(cancel_job(session(), JobRef(job_id, nonce)))


def test_an_unknown_id_is_not_sent(master):
    runner = FlowRunner(master)
    with pytest.raises(NotFound, match="does not know the job 'gone'"):
        cancel(runner, "gone")
    assert not runner.sent(Opcode.CANCEL_JOB)


def test_an_id_is_unknown_only_to_a_store_that_answers(master):
    down = {Opcode.KV_SET: "OK", Opcode.KV_GET: "NULL", Opcode.GET_JOB_STATUS: "NULL"}
    runner = FlowRunner(lambda call: down.get(call.opcode) or master(call))
    with pytest.raises(StoreUnavailable, match="nobody knows whether it has a job 'wait'; nothing was sent"):
        cancel(runner, "wait")
    assert not runner.sent(Opcode.CANCEL_JOB)
    # Of a submission that this client knows, the master may kill what runs; that nothing starts cannot be promised.
    with pytest.raises(StoreUnavailable, match="may run all the same; cancel it again"):
        cancel(runner, "wait", NONCE)
    assert runner.sent(Opcode.CANCEL_JOB) == ["DAG-wait"]


def test_a_dag_is_cancelled_from_its_end_without_what_has_ended(master):
    runner = FlowRunner(master)
    refs = [JobRef(job_id, plain=True) for job_id in ("done", "run", "wait")]
    assert runner.run(cancel_dag(session(), refs)) == {
        "done": JobStatus.COMPLETED,
        "run": JobStatus.CANCELLED,
        "wait": JobStatus.CANCELLED,
    }
    assert runner.sent(Opcode.CANCEL_JOB) == ["DAG-wait", "DAG-run"]


def test_the_mark_stands_before_the_master_is_told(master):
    """Or a job that becomes due between the two would find no mark, and its master would not stop it."""
    master.status["DAG-a"] = "PENDING"
    record(master, nonce=NONCE)
    runner = FlowRunner(master)
    assert cancel(runner) is JobStatus.CANCELLED
    opcodes = [opcode for opcode, _ in runner.calls]
    assert opcodes.index(Opcode.KV_SET) < opcodes.index(Opcode.CANCEL_JOB)
    assert MARK in master.kv


def test_a_job_whose_word_is_somebody_elses_is_marked_and_the_word_left_alone(master):
    master.status["DAG-a"] = "COMPLETED"
    runner = FlowRunner(master)
    assert cancel(runner, nonce=NONCE) is JobStatus.CANCELLED
    assert MARK in master.kv
    assert not runner.sent(Opcode.CANCEL_JOB)


def test_a_job_that_ended_before_its_mark_has_ended(master):
    master.status["DAG-a"] = "RUNNING"
    record(master, nonce=NONCE)

    def answer(call):
        if call.opcode is Opcode.CANCEL_JOB:
            master.complete("DAG-a")
            return "NOT_FOUND"
        return master(call)

    assert cancel(FlowRunner(answer)) is JobStatus.COMPLETED


@pytest.mark.parametrize(
    ("due_in", "parent", "sent"),
    [(600, None, False), (600, "COMPLETED", False), (600, "PENDING", True), (-600, None, True)],
)
def test_a_delayed_job_without_the_runtime_is_left_alone_where_no_cancel_reaches_it(
    master, due_in, parent, sent
):
    master.status |= {"DAG-a": "PENDING", "DAG-p": str(parent)}
    record(
        master, nonce=None, runtime=False, due_at=time.time() + due_in, parents=["DAG-p"] if parent else []
    )
    runner = FlowRunner(master)
    assert cancel(runner) is (JobStatus.CANCELLED if sent else JobStatus.PENDING)
    assert runner.sent(Opcode.CANCEL_JOB) == (["DAG-a"] if sent else [])


def test_of_somebody_elses_pending_job_a_real_master_may_have_cancelled_nothing(master):
    def answer(call):
        text = master(call)
        return "NOT_FOUND" if call.opcode is Opcode.CANCEL_JOB else text

    assert cancel(FlowRunner(answer), "wait") is JobStatus.UNKNOWN
    master.status["DAG-a"] = "PENDING"
    record(master, nonce=None, runtime=False)  # ours, and not delayed: it was in the queue
    assert cancel(FlowRunner(answer)) is JobStatus.CANCELLED
