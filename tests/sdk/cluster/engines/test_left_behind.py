"""On the bundled master nothing of a job with the runtime stays alive when its launcher, which is its guard, is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Meeting
from tests.support.runtime_bench import Watch
from titan_sdk import JobFailed, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster

# Slow: What is left behind is looked for over seconds.
pytestmark = pytest.mark.slow

# The script, a child in a session of its own, and that child's child in another. The last two ignore what they can.
FAMILY = """
import os, signal
name = "script"
if os.fork() == 0:
    name = "child"
    os.setsid()
    if os.fork() == 0:
        name = "grandchild"
        os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
"""
WORDS = "f'{name} {os.getpid()} {os.getppid()}'.encode()"


@pytest.fixture(scope="module")
def single() -> Iterator[TitanClient]:
    """A master with one slot: whoever does not give it back is noticed."""
    with (
        LocalCluster({"GENERAL": 1}) as running,
        TitanClient(running.host, running.port) as client,
    ):
        yield client


@pytest.fixture
def watched() -> Iterator[list[Watch]]:
    made: list[Watch] = []
    yield made
    for watch in made:
        watch.close()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def job(folder: Path, job_id: str, code: str) -> TitanJob:
    script = folder / "job.py"
    script.write_text(code)
    return TitanJob(job_id, str(script))


def test_death_of_the_launcher_leaves_nothing_and_frees_the_slot(
    single: TitanClient, meeting: Meeting, tmp_path: Path, watched: list[Watch]
) -> None:
    code = FAMILY + meeting.code("@").replace("b'@'", WORDS)
    handle = single.submit_job(job(tmp_path, "killed", code))
    words = {name: list(map(int, pids)) for name, *pids in (meeting.arrival()[0].split() for _ in range(3))}
    watched += [Watch(pid) for pid, _ in words.values()]
    folder = Path(f"/proc/{words['script'][0]}/environ").read_bytes().partition(b"TITAN_JOB_DIR=")[2]
    os.kill(words["script"][1], signal.SIGKILL)
    following = single.submit_job(job(tmp_path, "next-killed", ""))
    # The slot was not given to another job before the last of this one was gone.
    following.wait(300)
    assert all(watch.has_ended(0) for watch in watched)
    with pytest.raises(JobFailed, match="its launcher was ended by SIGKILL"):
        handle.wait(300)
    assert not os.path.exists(folder.partition(b"\0")[0])


def test_a_worker_process_that_stood_still_has_not_tried_yet(
    single: TitanClient, meeting: Meeting, tmp_path: Path, watched: list[Watch]
) -> None:
    """It gives a slot away over what it cannot kill, not over what it had no time to kill."""
    code = FAMILY + meeting.code("@").replace("b'@'", WORDS)
    handle = single.submit_job(job(tmp_path, "paused", code))
    words = {name: list(map(int, pids)) for name, *pids in (meeting.arrival()[0].split() for _ in range(3))}
    watched += [Watch(pid) for pid, _ in words.values()]
    launcher = words["script"][1]
    worker = parent(launcher)
    os.kill(worker, signal.SIGSTOP)
    try:
        os.kill(launcher, signal.SIGKILL)
        time.sleep(6)  # what is tested is time that it does not see
    finally:
        os.kill(worker, signal.SIGCONT)
    single.submit_job(job(tmp_path, "next-paused", "")).wait(300)
    assert all(watch.has_ended(0) for watch in watched)
    with pytest.raises(JobFailed, match="its launcher was ended by SIGKILL"):
        handle.wait(300)
