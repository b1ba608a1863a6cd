"""A cancel says what becomes of the job, and touches nothing that has ended or never was."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, JobStatus, NotFound, NotSupported, StoreUnavailable, WaitTimedOut
from titan_sdk.flows.cancel import cancel_dag, cancel_job, wait_stopped
from titan_sdk.flows.report import JobRef
from titan_sdk.session import Session
from titan_sdk.wire import statsjson
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


def run_state(state, **fields):
    found = {"attempt": 1, "token": "t", "worker": "w", "host": "h", "pid": 1, **fields}
    return json.dumps({"v": 1, "state": state, **found})


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


def test_an_id_that_a_store_knows_again_is_cancelled(master):
    """Its first word came while the store was away."""
    asked = []

    def answer(call):
        if call.opcode is Opcode.GET_JOB_STATUS:
            asked.append(call)
            if len(asked) == 1:
                return "NULL"
        return master(call)

    assert cancel(FlowRunner(answer), "run") is JobStatus.CANCELLED


@pytest.mark.parametrize(
    ("state", "fields", "end"),
    [("succeeded", {}, "COMPLETED"), ("failed", {}, "DEAD"), ("failed", {"cancelled": True}, "CANCELLED")],
)
def test_a_job_that_has_ended_is_neither_marked_nor_cancelled(master, state, fields, end):
    master.status["DAG-a"] = "DEAD"
    master.kv[STATE] = run_state(state, **fields)
    runner = FlowRunner(master)
    assert cancel(runner, nonce=NONCE) == end
    assert not runner.sent(Opcode.KV_SET) + runner.sent(Opcode.CANCEL_JOB)


def test_the_bundled_master_is_asked_and_believed():
    master = MasterModel(bundled=True)
    master.status = {
        "DAG-run": "RUNNING",
        "DAG-dead": "DEAD",
        "DAG-off": "CANCELLED",
        "DAG-done": "COMPLETED",
    }

    def answer(call):
        if call.opcode is Opcode.CANCEL_JOB and call.payload == "DAG-done":
            return "NOT_FOUND"  # nothing of it is left, and nothing changes
        return master(call)

    runner = FlowRunner(answer)
    for job_id, end in (("run", "CANCELLED"), ("dead", "DEAD"), ("off", "CANCELLED"), ("done", "COMPLETED")):
        assert cancel(runner, job_id) == end
    # A completed one may be a service that runs.
    assert runner.sent(Opcode.CANCEL_JOB) == ["DAG-run", "DAG-done"]
    with pytest.raises(NotFound, match="does not know the job 'gone'"):
        cancel(runner, "gone")


# -- services of a real master ------------------------------------------------------------------------


class Services(MasterModel):
    """A real master whose service ``DAG-a`` has these words, by the seconds from which they hold."""

    def __init__(self, *words: tuple[float, str], stops: bool = True) -> None:
        super().__init__()
        self.words = words
        self.running = {"DAG-a"} if stops else set()
        self.runner = FlowRunner(self)
        self.kv["titan:job:DAG-a"] = json.dumps({"v": 1, "nonce": None, "service": True})

    def __call__(self, call):
        self.status.setdefault("DAG-a", "")
        if self.status["DAG-a"] != "CANCELLED":
            self.status["DAG-a"] = [word for since, word in self.words if since <= self.runner.time][-1]
        deployed = self.running if self.status["DAG-a"] == "COMPLETED" else set()
        if call.opcode is Opcode.STATS_JSON:
            worker = {
                "port": 8080,
                "capabilities": "[GENERAL]",
                "load": "0/4",
                "active_job": None,
                "history": [],
            }
            return statsjson.encode([{**worker, "services": sorted(deployed)}], 0)
        if call.opcode is Opcode.STOP:
            if call.payload in deployed:
                self.running.remove(call.payload)
                return f"STOPPED: {call.payload}"
            return f"ERROR: Service {call.payload} not found in liveServiceMap. Current keys: []"
        return super().__call__(call)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_service_is_stopped_as_a_cancel_would_leave_it_running(recorded):
    """One that somebody else deployed is known by the master's statistics."""
    master = Services((0, "COMPLETED"))
    if not recorded:
        master.kv.clear()
    assert cancel(master.runner) is JobStatus.CANCELLED
    assert not master.running
    assert not master.runner.sent(Opcode.CANCEL_JOB), "it would call the service CANCELLED and let it run"


def test_a_service_that_is_starting_is_stopped_once_its_port_answers():
    master = Services((0, "RUNNING"), (4, "COMPLETED"))
    assert cancel(master.runner) is JobStatus.CANCELLED
    assert not master.running
    assert 4 <= master.runner.time < 5


def test_a_service_that_was_stopped_before_is_left_as_it_is():
    master = Services((0, "COMPLETED"), stops=False)
    assert cancel(master.runner) is JobStatus.COMPLETED
    assert not master.runner.sent(Opcode.CANCEL_JOB)


def test_a_service_that_still_waits_is_cancelled():
    master = Services((0, "PENDING"))
    assert cancel(master.runner) is JobStatus.CANCELLED
    assert not master.runner.sent(Opcode.STOP)


def test_a_service_that_somebody_else_cancels_meanwhile_is_cancelled():
    assert cancel(Services((0, "RUNNING"), (4, "CANCELLED")).runner) is JobStatus.CANCELLED


def test_a_service_that_a_real_master_cannot_stop_is_named():
    """Its port is taken, or it never answered: the process runs on, and nobody can reach it any more."""
    master = Services((0, "RUNNING"))
    with pytest.raises(WaitTimedOut, match="'a' has been starting for 30 s, and a real Titan cannot stop it"):
        cancel(master.runner)
    assert 30 <= master.runner.time < 32
    with pytest.raises(NotSupported, match=r"'a' was given up by its master.*end its process at the worker"):
        cancel(Services((0, "RUNNING"), (20, "DEAD")).runner)


# -- what is left of a run ----------------------------------------------------------------------------


def stopped(runner, timeout=None):
    return runner.run(wait_stopped(session(), JobRef("a", NONCE), timeout))


def test_on_a_real_master_a_run_is_over_with_its_record(master):
    runner = FlowRunner(master)
    assert stopped(runner), "nothing ever ran"

    def answer(call):
        ended = runner.time >= 90
        beats = {"heartbeat_at": runner.time // 2}
        master.kv[STATE] = run_state("failed", cancelled=True) if ended else run_state("running", **beats)
        return master(call)

    runner = FlowRunner(answer)
    assert not stopped(runner, 2.0)
    assert runner.time == 2.0
    assert stopped(runner)
    assert 90 <= runner.time < 92


def test_a_launcher_that_was_killed_leaves_a_record_that_never_ends(master):
    """What it started has the grace, and its guard some time to end the rest."""
    master.kv[STATE] = run_state("running", cancel_grace=12.0)
    runner = FlowRunner(master)
    assert stopped(runner)
    assert 12 < runner.time < 60


def test_the_bundled_master_says_itself_what_is_left():
    master = MasterModel(bundled=True)
    master.features.append("job_info")

    def answer(call):
        if call.opcode is not Opcode.JOB_INFO:
            return master(call)
        info = {"state": "CANCELLED", "attempts": 1, "submitted_at": 0.0, "history": []}
        return json.dumps({**info, "stopping": runner.time < 4})

    runner = FlowRunner(answer)
    assert not stopped(runner, 2.0)
    assert stopped(runner)
    assert 4 <= runner.time < 6
