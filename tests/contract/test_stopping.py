"""What a cancel leaves a script time for, and what it leaves alive: nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.process_watch import has_ended, wait_for
from titan_sdk import TitanJob

# Slow: Graces are seconds of the clock.
pytestmark = pytest.mark.slow

Unique = Callable[[str], str]
Script = Callable[..., str]

# Takes its time after SIGTERM, and has a child in a session of its own; or both ignore it.
CODE = """
import os, signal, sys, time
words = open(sys.argv[1], "a", buffering=1)
def stop(*_):
    words.write("asked\\n")
    time.sleep(float(sys.argv[2]))
    words.write("last\\n")
    print("last words", flush=True)
    sys.exit(0)
read, write = os.pipe()
if os.fork() == 0:
    if sys.argv[3] == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.setsid()
    words.write("child %d\\n" % os.getpid())
    os.write(write, b".")
    while True:
        time.sleep(1)
os.read(read, 1)
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[3] == "deaf" else stop)
words.write("begun\\n")
while True:
    time.sleep(60)
"""


class Family:
    """A job that has begun, and what its processes have written."""

    def __init__(self, api: Any, job: TitanJob, path: Path) -> None:
        self._path = path
        self.handle = api.submit_job(job)
        wait_for(lambda: "begun" in self.words())

    def words(self) -> list[str]:
        return self._path.read_text().split("\n")[:-1] if self._path.exists() else []

    def is_gone(self) -> bool:
        child = next(word for word in self.words() if word.startswith("child")).split()[1]
        return has_ended(child)


@pytest.fixture
def begin(api: Any, script: Script, unique: Unique, tmp_path: Path) -> Callable[..., Family]:
    def start(seconds: float, mode: str = "hears", **fields: Any) -> Family:
        words = tmp_path / "words"
        args = [str(words), str(seconds), mode]
        return Family(api, TitanJob(unique("stop"), script(CODE), args=args, **fields), words)

    return start


def test_a_script_that_needs_four_seconds_to_stop_has_them(api: Any, begin: Callable[..., Family]) -> None:
    family = begin(4, cancel_grace=60)
    # Airflow leaves a task 5 s between SIGTERM and SIGKILL: the answer does not wait for the job.
    assert family.handle.cancel() == "CANCELLED"
    assert "last" not in family.words()
    assert not api.wait_stopped(family.handle.job_id, timeout=0)
    assert api.wait_stopped(family.handle.job_id, timeout=300)
    assert family.words()[-2:] == ["asked", "last"]
    assert family.is_gone()
    assert "last words" in api.fetch_logs(family.handle.job_id)
    assert api.get_job_status(family.handle.job_id) == "CANCELLED"


def test_what_ignores_sigterm_is_killed_after_the_grace(api: Any, begin: Callable[..., Family]) -> None:
    family = begin(0, "deaf", cancel_grace=0.5)
    family.handle.cancel()
    assert api.wait_stopped(family.handle.job_id, timeout=120)
    assert family.is_gone()


def test_a_grace_of_zero_kills_at_once(api: Any, begin: Callable[..., Family]) -> None:
    family = begin(0, cancel_grace=0)
    family.handle.cancel()
    assert api.wait_stopped(family.handle.job_id, timeout=120)
    assert family.is_gone()
    assert "asked" not in family.words()


@pytest.mark.needs("job_info")
def test_without_the_runtime_a_script_has_five_seconds(api: Any, begin: Callable[..., Family]) -> None:
    family = begin(1, runtime=False)
    family.handle.cancel()
    assert api.wait_stopped(family.handle.job_id, timeout=120)
    assert family.words()[-2:] == ["asked", "last"]
    assert family.is_gone()


@pytest.mark.needs("job_info")
@pytest.mark.parametrize("runtime", [True, False], ids=["runtime", "plain"])
def test_the_slot_waits_until_nothing_is_left(
    api: Any, begin: Callable[..., Family], script: Script, unique: Unique, runtime: bool
) -> None:
    """There is one worker with the tag, with one slot."""
    family = begin(2, requirement="GPU", runtime=runtime)
    family.handle.cancel()
    words = family._path
    next_job = TitanJob(
        unique("next"),
        script(f"print(open({str(words)!r}).read())", "next.py"),
        requirement="GPU",
        runtime=runtime,
    )
    handle = api.submit_job(next_job)
    handle.wait(timeout=300)
    assert "last" in api.fetch_logs(handle.job_id)
    assert family.is_gone()
