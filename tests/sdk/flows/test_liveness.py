"""A master's word that is wrong for ever does not hold a wait for ever, and the report says what is wrong."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, ConnectFailed, JobFailed, JobStatus, NotFound, ServerInfo, WaitTimedOut
from titan_sdk.flows.logs import LogFollower
from titan_sdk.flows.report import JobRef
from titan_sdk.flows.wait import wait_for_job
from titan_sdk.session import Session
from titan_sdk.wire import statsjson
from titan_sdk.wire.opcodes import STORE_FAILED, Opcode

NONCE = "0123456789abcdef"
STATE = f"titan:run:DAG-a:{NONCE}:state"


def record(state="running", **fields):
    found = {
        "attempt": 1,
        "token": "t",
        "worker": "w1",
        "host": "h",
        "pid": 1,
        "heartbeat_at": 1.0,
        "log_chunks": 0,
    }
    return json.dumps({"v": 1, "state": state, **found, **fields})


@pytest.fixture
def master():
    made = MasterModel()
    made.status["DAG-a"] = "RUNNING"
    made.kv["titan:job:DAG-a"] = json.dumps({"v": 1, "nonce": NONCE})
    return made


def wait(runner, timeout=None, job_id="a", session=None):
    return runner.run(wait_for_job(session or Session(ClientConfig()), JobRef(job_id), timeout))


def test_a_runtime_that_fell_silent_means_that_its_worker_is_lost(master):
    master.kv[STATE] = record()
    runner = FlowRunner(master)
    with pytest.raises(
        JobFailed, match="still calls it RUNNING, but its runtime on w1 has been silent for over 60 s"
    ):
        wait(runner)
    assert 60 < runner.time < 90


@pytest.mark.parametrize("away", ["the master", "its store", "its store in words"])
def test_silence_while_nobody_could_be_heard_proves_nothing(master, away):
    """The job's runtime could not write either; it does so again some seconds after the client asks again."""
    state = {"beats": 0.0}

    def answer(call):
        if 20 <= runner.time < 110:
            if away == "the master":
                raise ConnectFailed("nobody is there", operation=call.name)
            if call.opcode in {Opcode.KV_GET, Opcode.KV_SET}:
                if away == "its store":
                    return "NULL" if call.opcode is Opcode.KV_GET else "OK"
                return STORE_FAILED + "the store is away"
        elif call.payload == STATE and runner.time <= 300:
            # Every five seconds, and not before seven have passed since the end of the outage.
            if runner.time < 20 or runner.time >= 117:
                state["beats"] = runner.time // 5
            return record(heartbeat_at=state["beats"])
        if runner.time > 300:
            master.complete("DAG-a")
        return master(call)

    runner = FlowRunner(answer)
    assert (
        wait(runner, session=Session(ClientConfig(), server=ServerInfo("titan"))).state is JobStatus.COMPLETED
    )
    assert runner.time > 300


def test_a_runtime_that_falls_silent_after_an_outage_is_lost_all_the_same(master):
    def answer(call):
        if 20 <= runner.time < 110:
            raise ConnectFailed("nobody is there", operation=call.name)
        return record() if call.payload == STATE else master(call)

    runner = FlowRunner(answer)
    with pytest.raises(JobFailed, match="has been silent for over 60 s"):
        wait(runner, session=Session(ClientConfig(), server=ServerInfo("titan")))
    assert 170 <= runner.time < 200


def test_a_runtime_that_lives_is_waited_for(master):
    beats = iter(range(1000))

    def answer(call):
        if call.payload == STATE:
            return record(heartbeat_at=float(next(beats)))
        return master(call)

    with pytest.raises(WaitTimedOut, match="a RUNNING"):
        wait(FlowRunner(answer), timeout=600)


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_an_end_that_the_master_never_heard_of_counts(master, state):
    master.kv[STATE] = record(state, exit_code=0 if state == "succeeded" else 3)
    runner = FlowRunner(master)
    if state == "failed":
        with pytest.raises(
            JobFailed,
            match="failed with exit code 3 on worker w1: the master still calls it RUNNING, but never",
        ):
            wait(runner)
        return
    assert wait(runner).state is JobStatus.COMPLETED


def test_a_last_record_is_waited_for_no_longer_than_its_workers_report_takes(master):
    """A worker that was killed after the record of the end was written: nothing more can come."""
    master.kv[STATE] = record("failed", exit_code=3, last=True)
    runner = FlowRunner(master)
    with pytest.raises(JobFailed, match="failed with exit code 3"):
        wait(runner)
    assert runner.time < 20


def test_an_end_that_somebody_else_told_is_none(master):
    """The job may still be queued; once nothing is, it is told never to start, and then it is known that it never ran."""
    master.status["DAG-a"] = "COMPLETED"
    runner = FlowRunner(master)
    with pytest.raises(
        JobFailed, match="the master calls it COMPLETED, but this submission never ran"
    ) as failure:
        wait(runner)
    assert 60 < runner.time < 70
    assert failure.value.report.never_started
    assert f"titan:run:DAG-a:{NONCE}:cancel" in master.kv


def test_a_job_that_may_still_be_queued_is_waited_for(master):
    """Somebody else's end stands before it; the queue is empty again when it has run."""
    master.status["DAG-a"] = "COMPLETED"

    def answer(call):
        if call.opcode is Opcode.STATS_JSON and runner.time < 200:
            return statsjson.encode([], 1)
        if runner.time >= 230:
            master.complete("DAG-a")
        return master(call)

    runner = FlowRunner(answer)
    assert wait(runner).state is JobStatus.COMPLETED
    assert runner.time < 240


def test_a_job_that_claims_its_start_while_it_is_told_never_to_is_waited_for(master):
    master.status["DAG-a"] = "COMPLETED"

    def answer(call):
        text = master(call)
        if call.opcode is Opcode.KV_SET and ":cancel|" in call.payload:
            master.kv[STATE] = record(heartbeat_at=time.time())
        if runner.time > 100:
            master.complete("DAG-a")
        return text

    runner = FlowRunner(answer)
    assert wait(runner).state is JobStatus.COMPLETED
    assert runner.time > 100


def test_a_cancelled_run_whose_end_the_master_never_heard_of_was_cancelled(master):
    """Of an id that was cancelled once, a real master says RUNNING for ever."""
    master.kv[STATE] = record("failed", cancelled=True)
    with pytest.raises(JobFailed, match="job 'a' was cancelled") as failure:
        wait(FlowRunner(master))
    assert failure.value.report.reason is None


def test_a_runtime_that_falls_silent_after_the_master_called_it_dead_is_dead(master):
    """The master may have meant another submission of the id, but it has not called this one alive."""
    master.status["DAG-a"] = "DEAD"
    master.kv[STATE] = record(heartbeat_at=time.time())
    runner = FlowRunner(master)
    with pytest.raises(JobFailed, match="its runtime ended without a final record"):
        wait(runner)
    assert runner.time > 60


@pytest.mark.parametrize("state", ["running", "succeeded"])
def test_another_submissions_failure_is_not_ours(master, state):
    master.status["DAG-a"] = "DEAD"
    master.kv[STATE] = record(state, heartbeat_at=time.time())
    if state == "succeeded":
        assert wait(FlowRunner(master)).state is JobStatus.COMPLETED
        return
    with pytest.raises(WaitTimedOut, match="a RUNNING"):
        wait(FlowRunner(master), timeout=30)


def test_a_job_without_a_record_is_waited_for(master):
    with pytest.raises(WaitTimedOut):
        wait(FlowRunner(master), timeout=300)


def test_a_job_that_goes_back_to_the_queue_is_no_longer_watched(master):
    """A master that was restarted runs it again: the old record says nothing about the new run."""
    master.kv[STATE] = record()
    runner = FlowRunner(master)
    master_status = master.status

    def answer(call):
        if runner.time > 150:
            master.complete("DAG-a")
        elif runner.time > 40:
            master_status["DAG-a"] = "PENDING"
        return master(call)

    runner._answer = answer
    assert wait(runner).state is JobStatus.COMPLETED


def test_null_is_believed_only_while_the_store_answers(master):
    """A store that is down for two minutes: the master says NULL, and the wait outlasts it."""
    runner = FlowRunner(master)

    def answer(call):
        if 5 < runner.time < 125:
            return {Opcode.KV_SET: "OK", Opcode.GET_JOB_STATUS: "NULL", Opcode.KV_GET: "NULL"}.get(
                call.opcode
            ) or master(call)
        if runner.time >= 125:
            master.complete("DAG-a")
        return master(call)

    runner._answer = answer
    assert wait(runner).state is JobStatus.COMPLETED


def test_a_store_that_comes_back_between_two_answers_is_no_loss(master):
    runner = FlowRunner(master)
    probed = []

    def answer(call):
        if call.opcode is Opcode.KV_SET:
            probed.append(call)
        if call.opcode is Opcode.GET_JOB_STATUS and runner.time < 20 and not probed:
            return "NULL"
        if probed:
            master.complete("DAG-a")
        return master(call)

    runner._answer = answer
    assert wait(runner).state is JobStatus.COMPLETED


def test_a_store_that_stays_down_ends_the_wait_with_its_own_sentence():
    runner = FlowRunner(
        lambda call: (
            "OK"
            if call.opcode is Opcode.KV_SET
            else "UNKNOWN_OPCODE: 64"
            if call.opcode is Opcode.HELLO
            else "NULL"
        )
    )
    with pytest.raises(WaitTimedOut, match="the master's store has not answered for 300 s"):
        wait(runner)


def test_a_status_that_vanished_is_told_from_an_id_nobody_submitted(master):
    master.status.clear()
    with pytest.raises(NotFound, match="it was submitted there, but its status is gone"):
        wait(FlowRunner(master))
    with pytest.raises(NotFound, match="it was never submitted there"):
        wait(FlowRunner(master), job_id="other")


def follow(runner, follower):
    lines = []
    while not follower.done:
        lines += runner.run(follower.read())
    return lines


def chunk(index, text):
    return {f"titan:run:DAG-a:{NONCE}:log:{index}": json.dumps({"v": 1, "attempt": index + 1, "text": text})}


def test_a_log_is_followed_into_the_next_attempt(master):
    """The end of an attempt is not the end of the job."""
    runner = FlowRunner(master)
    master.kv[STATE] = record("failed", log_chunks=1)
    master.kv |= chunk(0, "one\n")

    def answer(call):
        if runner.time > 1:
            master.complete("DAG-a")
            master.kv[STATE] = record("succeeded", attempt=2, log_chunks=2)
            master.kv.update(chunk(1, "two\nno end"))
        return master(call)

    runner._answer = answer
    assert follow(runner, LogFollower(Session(ClientConfig()), JobRef("a"))) == ["one", "two", "no end"]


def test_a_log_ends_with_a_failed_attempt_that_nothing_follows(master):
    runner = FlowRunner(master)
    master.kv[STATE] = record("failed", log_chunks=1)
    master.kv |= chunk(0, "one\n")
    assert follow(runner, LogFollower(Session(ClientConfig()), JobRef("a"))) == ["one"]
    assert 60 <= runner.time < 90
