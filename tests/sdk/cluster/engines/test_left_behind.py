"""On the bundled master nothing of a job with the runtime stays alive when its launcher, which is its guard, is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Meeting
from tests.support.runtime_bench import Watch
from titan_sdk import JobFailed, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.worker import client as client_of_worker

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


# A worker process that gets to look at its clock once an hour, as long as there is a certain file. Its forks do not.
SLOW = """
import os, runpy, sys, time
_, slow, *sys.argv = sys.argv
real, hours, whose = time.monotonic, 0, 0
def monotonic():
    global hours, whose
    whose = whose or os.getpid()
    hours += whose == os.getpid() and os.path.exists(slow)
    return real() + 3600 * hours
time.monotonic = monotonic
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PYTHON = """#!/bin/sh
shift 2
exec '{python}' -I -S '{program}' '{slow}' "$@"
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that makes worker processes slow."""
    folder = tmp_path_factory.mktemp("clock")
    slow, program, python = folder / "slow", folder / "slow.py", folder / "python"
    program.write_text(SLOW)
    python.write_text(PYTHON.format(python=sys.executable, program=program, slow=slow))
    python.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_of_worker, "python_as_found", lambda: str(python))
        yield slow


@pytest.fixture(scope="module")
def single(slow: Path) -> Iterator[TitanClient]:
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
    single: TitanClient, slow: Path, meeting: Meeting, tmp_path: Path, watched: list[Watch]
) -> None:
    """It gives a slot away over what it cannot kill, not over what it had no time to kill."""
    code = FAMILY + meeting.code("@").replace("b'@'", WORDS)
    handle = single.submit_job(job(tmp_path, "paused", code))
    words = {name: list(map(int, pids)) for name, *pids in (meeting.arrival()[0].split() for _ in range(3))}
    watched += [Watch(pid) for pid, _ in words.values()]
    slow.touch()
    os.kill(words["script"][1], signal.SIGKILL)
    single.submit_job(job(tmp_path, "next-paused", "")).wait(300)
    slow.unlink()
    assert all(watch.has_ended(0) for watch in watched)
    with pytest.raises(JobFailed, match="its launcher was ended by SIGKILL"):
        handle.wait(300)
