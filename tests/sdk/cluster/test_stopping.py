"""Stopping a job when the master itself is stopped, killed or hindered meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer, script
from tests.support.process_watch import has_ended, wait_for, worker_processes
from titan_sdk import TitanClient, TitanJob

# Slow: Graces are seconds of the clock.
pytestmark = pytest.mark.slow

# Writes what happens to it to a file; takes 2 s to stop, or ignores that it is asked to.
CODE = """
import os, signal, sys, time
def note(text):
    with open({words!r}, "a") as file:
        file.write(text + chr(10))
def stop(*_):
    note("asked")
    time.sleep(2)
    note("last")
    sys.exit(0)
if os.fork() == 0:
    os.setsid()
    if {deaf}:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("child %d" % os.getpid())
    while True:
        time.sleep(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN if {deaf} else stop)
while not any(line.startswith("child") for line in open({words!r})):
    time.sleep(0.01)
note("begun")
while True:
    time.sleep(60)
"""


class Job:
    """A job whose script is CODE."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "words"
        self.path.touch()

    def code(self, *, deaf: bool = False) -> str:
        return CODE.format(words=str(self.path), deaf=deaf)

    def words(self) -> list[str]:
        return self.path.read_text().splitlines()

    def is_gone(self) -> bool:
        child = next(word for word in self.words() if word.startswith("child")).split()[1]
        return has_ended(child)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[MasterProcess]:
    made = MasterProcess(tmp_path / "data", workers={"GENERAL": 1})
    yield made
    made.close()


@pytest.fixture(params=["runtime", "plain"])
def submit(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Submits CODE as the job ``old`` and waits until it has begun."""

    def start(peer: Peer, job: Job, *, deaf: bool = False) -> None:
        path = tmp_path / "old.py"
        path.write_text(job.code(deaf=deaf))
        fields: dict[str, Any] = {"cancel_grace": 3} if request.param == "runtime" else {"runtime": False}
        with TitanClient(*peer.address) as client:
            client.submit_job(TitanJob("old", str(path), **fields))
        wait_for(lambda: "begun" in job.words())

    return start


@pytest.mark.parametrize("deaf", [False, True], ids=["hears", "deaf"])
def test_a_master_that_is_killed_in_the_grace_is_followed_by_one_that_ends_the_run(
    master: MasterProcess, job: Job, submit: Callable[..., None], deaf: bool
) -> None:
    peer = master.start()
    submit(peer, job, deaf=deaf)
    assert peer.cancel("old") == "CANCELLED"
    master.kill()
    peer = master.start()
    assert peer.status("old") == "CANCELLED"
    # Its id is taken, and so is its slot, until nothing of it is left.
    reply = peer.submit(script("old", ""))
    assert "is being cancelled" in reply.text or job.is_gone()
    peer.submit(script("next", f"print(open({str(job.path)!r}).read())"))
    assert peer.until("next") == "COMPLETED"
    assert ("last" in peer.log("next")) is not deaf
    assert job.words().count("asked") == (0 if deaf else 1)
    assert job.is_gone()
    assert reply.ok or peer.submit(script("old", "")).ok


def test_a_run_of_an_earlier_master_is_stopped_in_the_same_way(
    master: MasterProcess, job: Job, submit: Callable[..., None]
) -> None:
    peer = master.start()
    submit(peer, job)
    master.kill()
    peer = master.start()
    assert peer.cancel("old") == "CANCELLED"
    peer.submit(script("next", f"print(open({str(job.path)!r}).read())"))
    assert peer.until("next") == "COMPLETED"
    assert "last" in peer.log("next")
    assert job.words().count("asked") == 1
    assert job.is_gone()


@pytest.mark.parametrize("deaf", [False, True], ids=["hears", "deaf"])
def test_a_clean_stop_gives_the_grace(
    master: MasterProcess, job: Job, submit: Callable[..., None], deaf: bool
) -> None:
    peer = master.start()
    submit(peer, job, deaf=deaf)
    begun = time.monotonic()
    assert master.stop() == 0
    assert time.monotonic() - begun < 20
    assert ("last" in job.words()) is not deaf
    assert job.is_gone()


def test_a_clean_stop_lets_the_runtime_hand_in_what_became_of_the_job(
    master: MasterProcess, tmp_path: Path
) -> None:
    peer = master.start()
    path = tmp_path / "j.py"
    path.write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    with TitanClient(*peer.address) as client:
        client.submit_job(TitanJob("j", str(path), cancel_grace=120))
        wait_for(lambda: "begun" in client.fetch_logs("j"))
    begun = time.monotonic()
    assert master.stop() == 0
    assert time.monotonic() - begun < 60
    peer = master.start()
    with TitanClient(*peer.address) as client:
        report = client.job_handle("j").wait(300, raise_on_failure=False)
    assert report.reason is not None
    assert "the job was sent SIGTERM" in report.reason


def test_a_worker_process_that_stands_still_keeps_no_master_from_ending(
    master: MasterProcess, job: Job, submit: Callable[..., None], tmp_path: Path
) -> None:
    errors = tmp_path / "errors"
    with errors.open("wb") as file:
        peer = master.start(file)
    submit(peer, job)
    (worker,) = worker_processes(tmp_path / "data")
    os.kill(worker, signal.SIGSTOP)
    begun = time.monotonic()
    assert master.stop() == 0
    assert time.monotonic() - begun < 30
    assert job.is_gone()
    assert "the process that started job DAG-old does not answer; the job is killed" in errors.read_text()
    assert has_ended(str(worker))


def test_a_cancelled_service_is_not_started_again_by_the_next_master(master: MasterProcess, job: Job) -> None:
    import base64
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"import socket\nserver = socket.create_server(('127.0.0.1', {port}))\n" + job.code(deaf=True)
    peer = master.start()
    content = base64.b64encode(code.encode()).decode()
    assert peer.submit(f"svc|DEPLOY_PAYLOAD|svc.py|{content}|{port}|GENERAL|1|0|[]").ok
    peer.until("svc")
    wait_for(lambda: "begun" in job.words())
    assert peer.cancel("svc") == "CANCELLED"
    master.kill()
    peer = master.start()
    wait_for(job.is_gone, 30)
    assert peer.status("svc") == "CANCELLED"
    assert job.words().count("begun") == 1
