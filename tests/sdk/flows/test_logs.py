"""Logs without the runtime are as good as the master's, and each line comes once."""

from __future__ import annotations

import json

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig
from titan_sdk.flows.logs import LogFollower, fetch_logs, read_logs
from titan_sdk.flows.report import JobRef
from titan_sdk.model.server import ServerInfo
from titan_sdk.session import Session
from titan_sdk.wire.opcodes import Opcode

NONCE = "0123456789abcdef"


@pytest.fixture
def session():
    return Session(ClientConfig())


@pytest.fixture
def master():
    made = MasterModel()
    made.status["DAG-a"] = "RUNNING"
    return made


def follow(runner, follower):
    lines = []
    while not follower.done:
        lines += runner.run(follower.read())
    return lines


def growing(master, *texts):
    """The master's log at each look; the job has completed at the last one."""
    left = list(texts)

    def answer(call):
        if call.opcode is Opcode.GET_LOGS:
            master.kv["log:DAG-a"] = left.pop(0) if len(left) > 1 else left[0]
            if len(left) == 1:
                master.status["DAG-a"] = "COMPLETED"
        return master(call)

    return FlowRunner(answer)


def test_a_growing_log_is_followed_line_by_line(session, master):
    runner = growing(master, "", "one\ntw", "one\ntwo\n", "one\ntwo\nthree\n")
    assert follow(runner, LogFollower(session, JobRef("a"))) == ["one", "two", "three"]
    assert runner.time < 2, "a complete last line means that nothing is under way"


def test_a_bar_is_shown_as_it_changes_at_a_bounded_rate_and_once_at_its_end(session, master):
    bar = [f"\r{percent}%" for percent in range(101)]
    texts = ["".join(bar[: n + 1]) for n in range(101)] + ["".join(bar) + "\ndone\n"]
    runner = growing(master, *texts)
    lines = follow(runner, LogFollower(session, JobRef("a")))
    assert [line for line in lines if line.is_final] == ["100%", "done"]
    states = [line for line in lines if not line.is_final]
    assert states[0] == "0%"
    assert len(states) <= runner.time + 1


def test_late_lines_of_a_real_worker_are_waited_for(session, master):
    runner = growing(master, "one\n", "one\ntwo")
    assert follow(runner, LogFollower(session, JobRef("a"))) == ["one", "two"]
    assert runner.time >= 2.5


def test_a_log_that_lost_its_beginning_goes_on_where_it_was(session, master):
    runner = growing(master, "1\n2\n3\n", "2\n3\n4\n", "9\n")
    assert follow(runner, LogFollower(session, JobRef("a"))) == ["1", "2", "3", "4", "9"]


def test_a_position_is_taken_up_again(session, master):
    runner = growing(master, "one\ntwo\n")
    follower = LogFollower(session, JobRef("a"), position=4)
    assert follow(runner, follower) == ["two"]
    assert follower.position == 8


def test_pages_of_the_masters_log(session, master):
    master.kv["log:DAG-a"] = "one\ntwo\n"
    runner = FlowRunner(master)
    page = runner.run(read_logs(session, JobRef("a")))
    assert (page.text, page.position) == ("one\ntwo\n", 8)
    assert runner.run(read_logs(session, JobRef("a"), 4)).text == "two\n"


def test_a_master_with_log_read_is_asked_by_offset(session, master):
    answers = {0: ("one\n", 4, False), 4: ("two", 7, True), 7: ("", 7, True)}

    def answer(call):
        if call.opcode is Opcode.HELLO:
            return '{"server":"x","version":"1","features":["log_read","ordered_logs"]}'
        if call.opcode is Opcode.LOG_READ:
            text, after, ended = answers[json.loads(call.payload)["offset"]]
            if ended:
                master.status["DAG-a"] = "COMPLETED"
            return json.dumps({"text": text, "next": after, "ended": ended})
        return master(call)

    runner = FlowRunner(answer)
    follower = LogFollower(session, JobRef("a"))
    assert follow(runner, follower) == ["one", "two"]
    assert (follower.position, runner.sent(Opcode.GET_LOGS)) == (7, [])


def test_what_the_stub_said_is_the_log_of_a_job_whose_runtime_never_came_up(session, master):
    master.status["DAG-a"] = "DEAD"
    master.kv["log:DAG-a"] = "titan-runtime: no Python\n"
    ref = JobRef("a", NONCE)
    assert follow(FlowRunner(master), LogFollower(session, ref)) == ["titan-runtime: no Python"]
    assert FlowRunner(master).run(fetch_logs(session, ref)) == "titan-runtime: no Python\n"


def test_chunks_are_read_in_pages(session, master):
    for index in range(3):
        master.kv[f"titan:run:DAG-a:{NONCE}:log:{index}"] = json.dumps(
            {"v": 1, "attempt": 1, "text": f"{index}\n"}
        )
    runner = FlowRunner(master)
    page = runner.run(read_logs(session, JobRef("a", NONCE), chunks=2))
    assert (page.text, page.position) == ("0\n1\n", 2)
    assert runner.run(read_logs(session, JobRef("a", NONCE), 2)).text == "2\n"
    assert runner.run(read_logs(session, JobRef("a", NONCE), 1, until=2)).text == "1\n"
    assert runner.run(fetch_logs(session, JobRef("a", NONCE))) == "0\n1\n2\n"
    master.status["DAG-a"] = "COMPLETED"
    follower = LogFollower(session, JobRef("a", NONCE), position=1)
    assert follow(runner, follower) == ["1", "2"]
    assert follower.position == 3


def test_chunks_written_just_before_the_end_are_not_missed(session, master):
    master.kv["titan:job:DAG-a"] = json.dumps({"v": 1, "nonce": NONCE})

    def answer(call):
        if call.opcode is Opcode.GET_JOB_STATUS:
            master.complete("DAG-a")
            master.kv[f"titan:run:DAG-a:{NONCE}:log:0"] = json.dumps({"v": 1, "attempt": 1, "text": "late\n"})
        return master(call)

    runner = FlowRunner(answer)
    assert follow(runner, LogFollower(session, JobRef("a", NONCE))) == ["late"]
    assert len(runner.sent(Opcode.GET_JOB_STATUS)) == 1


def test_the_log_of_a_job_without_a_record_is_the_masters(session, master):
    master.kv["log:DAG-a"] = "as it is\n"
    assert FlowRunner(master).run(fetch_logs(session, JobRef("a"))) == "as it is\n"


@pytest.fixture
def keeping(session, master):
    """A master that keeps the logs of runs itself, a page of four bytes at a time."""
    session.server = ServerInfo("bundled", "1", frozenset({"log_read", "run_logs", "ordered_logs"}))
    log = "one\ntwo"

    def answer(call):
        if call.opcode is not Opcode.LOG_READ:
            return master(call)
        asked = json.loads(call.payload)
        assert asked["nonce"] == NONCE
        end = min(asked["offset"] + 4, len(log))
        return json.dumps({"text": log[asked["offset"] : end], "next": end, "ended": end == len(log)})

    return FlowRunner(answer)


def test_where_the_master_keeps_the_log_the_record_says_so(session, master, keeping):
    ref = JobRef("a", NONCE)
    key = f"titan:run:DAG-a:{NONCE}:state"
    follower = LogFollower(session, ref, position=2)
    master.status["DAG-a"] = "PENDING"
    assert keeping.run(follower.read()) == []
    assert [opcode for opcode, _ in keeping.calls] == [Opcode.KV_GET, Opcode.GET_JOB_STATUS], (
        "nothing is printed before there is a record"
    )
    master.complete("DAG-a")
    master.leave_success("DAG-a", NONCE)
    master.kv[key] = json.dumps({**json.loads(master.kv[key]), "log": "master"})
    assert follow(keeping, follower) == ["e", "two"]
    assert follower.position == 7
    assert keeping.run(fetch_logs(session, ref)) == "one\ntwo"
    page = keeping.run(read_logs(session, ref))
    assert (page.text, page.position) == ("one\n", 4)


def test_an_older_launchers_chunks_are_read_from_a_master_that_keeps_logs(session, master, keeping):
    master.leave_success("DAG-a", NONCE)
    master.status["DAG-a"] = "COMPLETED"
    master.kv[f"titan:run:DAG-a:{NONCE}:log:0"] = json.dumps({"v": 1, "attempt": 1, "text": "chunk\n"})
    assert keeping.run(fetch_logs(session, JobRef("a", NONCE))) == "chunk\n"
    assert follow(keeping, LogFollower(session, JobRef("a", NONCE))) == ["chunk"]
    assert keeping.run(read_logs(session, JobRef("a", NONCE))).position == 1
