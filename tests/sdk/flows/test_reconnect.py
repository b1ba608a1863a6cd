"""A wait outlasts a master that is away for a while, and says so when it was away for too long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import (
    ClientConfig,
    ConnectFailed,
    ConnectionLost,
    JobStatus,
    NotFound,
    StoreUnavailable,
    TimedOut,
    TLSFailed,
    WaitTimedOut,
)
from titan_sdk.flows.core import Blocking, ask, blocking
from titan_sdk.flows.logs import LogFollower
from titan_sdk.flows.report import JobRef
from titan_sdk.flows.wait import PATIENCE, Reconnect, WaitTarget, wait_for_dag, wait_for_job
from titan_sdk.model.server import ServerInfo
from titan_sdk.session import Session
from titan_sdk.wire import calls
from titan_sdk.wire.opcodes import Opcode

REAL = ServerInfo("titan", "1", frozenset())


@pytest.fixture
def session():
    """Of a client that knows its master from earlier calls."""
    return Session(ClientConfig(), server=REAL)


def away(master, start, end, error=ConnectFailed):
    """The master cannot be reached from one moment to another; the job completes when it is back."""

    def answer(call):
        if start <= runner.time < end:
            raise error(f"{call.name}: nobody is there", address="here:1", operation=call.name)
        if runner.time >= end:
            master.status["DAG-a"] = "COMPLETED"
        return master(call)

    runner = FlowRunner(answer)
    return runner


@pytest.fixture
def master():
    made = MasterModel()
    made.status["DAG-a"] = "RUNNING"
    return made


@pytest.mark.parametrize("error", [ConnectFailed, ConnectionLost, TimedOut, StoreUnavailable])
def test_a_wait_goes_on_when_the_master_is_back(session, master, error):
    runner = away(master, 5, 100, error)
    assert runner.run(wait_for_job(session, JobRef("a"))).state is JobStatus.COMPLETED
    assert 100 <= runner.time < 110


def test_so_does_the_wait_for_a_dag(session, master):
    runner = away(master, 0, 30)
    assert runner.run(wait_for_dag(session, "d", [WaitTarget(JobRef("a"))])).state is JobStatus.COMPLETED


def test_so_does_a_log(session, master):
    runner = away(master, 1, 60)
    follower = LogFollower(session, JobRef("a"))
    master.kv["log:DAG-a"] = "one\ntwo\n"
    lines = []
    while not follower.done:
        lines += runner.run(follower.read())
    assert lines == ["one", "two"]
    assert runner.time >= 60


def test_a_master_that_stays_away_ends_the_wait(session, master):
    runner = away(master, 5, 10_000)
    with pytest.raises(ConnectFailed, match=r"away for over 120 s\. The work may go on") as failure:
        runner.run(wait_for_job(session, JobRef("a")))
    assert failure.value.address == "here:1"
    assert 5 + PATIENCE <= runner.time < 5 + PATIENCE + 10


def test_the_waits_own_limit_holds_meanwhile(session, master):
    runner = away(master, 5, 10_000)
    with pytest.raises(WaitTimedOut, match="not over in time, and the master has been away for"):
        runner.run(wait_for_job(session, JobRef("a"), timeout=20))
    assert runner.time == pytest.approx(20)


def test_a_master_that_never_answered_is_reported_at_once(master):
    runner = away(master, 0, 10_000)
    with pytest.raises(ConnectFailed):
        runner.run(wait_for_job(Session(ClientConfig()), JobRef("a")))
    assert runner.time == 0


def test_what_is_no_outage_is_reported_at_once(session, master):
    runner = away(master, 5, 10_000, TLSFailed)
    with pytest.raises(TLSFailed):
        runner.run(wait_for_job(session, JobRef("a")))
    assert runner.time < 7


def test_errors_reach_the_flow_that_asked(session, master):
    def careful():
        try:
            yield from blocking(broken)
        except NotFound:
            pass
        return (yield from ask(calls.job_status("a")))

    def broken():
        raise NotFound("not here")

    assert FlowRunner(master).run(Reconnect(session).outlast(careful())) is JobStatus.RUNNING


def test_a_step_that_asks_nothing_is_not_done_again(session):
    done = []

    def once():
        done.append(1)
        raise ConnectFailed("from somewhere else")

    with pytest.raises(ConnectFailed, match="from somewhere else"):
        FlowRunner(MasterModel()).run(Reconnect(session).outlast(blocking(once)))
    assert done == [1]


def test_ending_it_ends_the_flow(session):
    ended = []

    def flow():
        try:
            yield Blocking(list)
        finally:
            ended.append(1)

    running = Reconnect(session).outlast(flow())
    next(running)
    running.close()
    assert ended == [1]


def test_a_master_known_from_before_a_lost_connection_is_waited_for(session, master):
    session.forget_server(ConnectionLost("lost"))
    assert session.server is None
    assert away(master, 0, 30).run(wait_for_job(session, JobRef("a"))).state is JobStatus.COMPLETED


@pytest.mark.parametrize(("repeatable", "sent"), [(True, 2), (False, 1)])
def test_a_change_in_doubt_is_not_made_again(session, repeatable, sent):
    """Another copy would be another change, unless a copy changes nothing more."""
    call = replace(calls.kv_set("k", "v"), repeatable=repeatable)
    answers = [ConnectionLost("lost"), "OK"]

    def answer(call):
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    runner = FlowRunner(answer)
    flow = Reconnect(session).outlast(ask(call))
    if repeatable:
        assert runner.run(flow) == "OK"
    else:
        with pytest.raises(ConnectionLost):
            runner.run(flow)
    assert len(runner.sent(Opcode.KV_SET)) == sent
