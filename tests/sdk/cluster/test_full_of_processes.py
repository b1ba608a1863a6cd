"""A machine, or a user, with too many processes delays a job and ends none."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer, script
from tests.support.process_watch import worker_processes
from tests.support.tracer import Tracer
from titan_sdk.runtime.worker import processes

# Slow: Each test runs a master under strace.
pytestmark = pytest.mark.slow

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "errors"


@pytest.fixture
def master(tmp_path: Path) -> Iterator[MasterProcess]:
    made = MasterProcess(tmp_path / "data", workers={"GENERAL": 1})
    yield made
    made.close()


def start(master: MasterProcess, errors: Path) -> Peer:
    with errors.open("wb") as file:
        return master.start(file)


def no_forks(pid: int, said: Path) -> Tracer:
    """The forks of the process and of its guards fail as where there are too many, while this is entered."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    calls = "clone,clone3,fork,vfork"
    options = ["-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:error=EAGAIN"]
    return Tracer(options, [pid, *map(int, children)], said)


def wait_for(path: Path, words: str) -> None:
    deadline = time.monotonic() + 60
    while words not in path.read_text():
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.02)


@needs_strace
def test_a_job_waits_until_it_can_be_started(master: MasterProcess, errors: Path, tmp_path: Path) -> None:
    peer = start(master, errors)
    peer.submit(script("first", ""))
    assert peer.until("first") == "COMPLETED"
    with no_forks(worker_processes(tmp_path / "data")[0], tmp_path / "strace"):
        peer.submit(script("second", ""), script("child", "", parents=["second"]))
        wait_for(errors, "job DAG-second waits: it cannot be started at the moment")
        assert peer.cancel("second") == "CANCELLED"
        assert peer.until("child") == "DEAD"
        peer.submit(script("third", "print('ran')"))
        wait_for(errors, "job DAG-third waits")
    assert peer.until("third") == "COMPLETED"
    assert peer.log("third") == "ran\n"
    assert peer.ask(0x42, '{"id": "DAG-third"}').text.count("started: run 1") == 1


@needs_strace
def test_so_does_one_that_needs_a_worker_process_first(
    master: MasterProcess, errors: Path, tmp_path: Path
) -> None:
    peer = start(master, errors)
    with no_forks(master.pid, tmp_path / "strace"):
        peer.submit(script("first", ""))
        wait_for(errors, "job DAG-first waits")
    assert peer.until("first") == "COMPLETED"


@needs_strace
def test_a_master_that_is_killed_meanwhile_is_followed_by_one_that_starts_it(
    master: MasterProcess, errors: Path, tmp_path: Path
) -> None:
    peer = start(master, errors)
    peer.submit(script("first", ""))
    assert peer.until("first") == "COMPLETED"
    with no_forks(worker_processes(tmp_path / "data")[0], tmp_path / "strace"):
        peer.submit(script("second", "print('ran')"))
        wait_for(errors, "job DAG-second waits")
        master.kill()
    peer = start(master, errors)
    assert peer.until("second") == "COMPLETED"
    assert peer.log("second") == "ran\n"


def test_a_launcher_tries_again() -> None:
    answers = [BlockingIOError(11, os.strerror(11)), RuntimeError("can't start new thread")]

    def begin() -> int:
        if answers:
            raise answers.pop()
        return 7

    assert processes.patiently(begin) == 7
