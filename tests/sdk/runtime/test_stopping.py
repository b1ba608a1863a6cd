"""A job that is stopped is sent SIGTERM, has its grace, and leaves nothing alive: whoever stops it, and however."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.runtime_bench import Bench, Running
from titan_sdk.runtime import keys
from titan_sdk.runtime.spec import RunSpec

# Slow: Graces are seconds of the clock.
pytestmark = pytest.mark.slow

# Says that it is ready, and takes a second for its last words, which go to the log and to a file.
SLOW = """
import os, signal, sys, time
said = False
def stop(*_):
    global said
    with open({words!r}, "a") as file:
        file.write("asked %d\\n" % os.getppid())
    if not said:
        said = True
        time.sleep(1)
        print("last words", flush=True)
        with open({words!r}, "a") as file:
            file.write("done\\n")
        sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("begun", flush=True)
open({fifo!r}, "w").close()
while True:
    time.sleep(60)
"""


@pytest.fixture(params=["SIGTERM to the launcher", "SIGKILL of the launcher", "timeout"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def begin(
    bench: Bench, source: str, how: str, name: str = "job.py", **fields: object
) -> tuple[RunSpec, Running]:
    """A job that has begun, and is being stopped."""
    spec = bench.spec(source, name, timeout=2.0 if how == "timeout" else None, **fields)
    running = bench.start(spec)
    (bench.shared / "fifo").open().close()
    if "KILL" in how:
        # What a launcher has read and not sent is lost with it.
        first = keys.log_key(spec.job_id, spec.nonce, 0)
        bench.store.wait_until(lambda: first in bench.store.values)
    if how != "timeout":
        bench.store.wait_until(lambda: bench.has_state(spec, "running"))
        os.kill(running.pid, signal.SIGKILL if "KILL" in how else signal.SIGTERM)
    return spec, running


def words(bench: Bench) -> list[str]:
    return [line.split()[0] for line in (bench.shared / "words").read_text().splitlines()]


def slow(bench: Bench) -> str:
    return SLOW.format(words=str(bench.shared / "words"), fifo=str(bench.shared / "fifo"))


def test_a_script_that_takes_its_time_says_its_last_words(bench: Bench, how: str) -> None:
    bench.fifo()
    spec, running = begin(bench, slow(bench), how)
    # A worker gives the slot away when this output is closed.
    running.wait()
    assert words(bench) == ["asked", "done"]
    bench.store.wait_until(lambda: bench.has_state(spec, "failed"))
    assert bench.log(spec).splitlines()[:2] == ["begun", "last words"]


def test_so_does_a_program_whose_shell_is_gone_at_once(bench: Bench, how: str) -> None:
    """A shell without a trap ends by the SIGTERM of its group, long before the program that it waits for."""
    bench.fifo()
    (bench.shared / "slow.py").write_text(slow(bench))
    spec, running = begin(bench, f"python3 {bench.shared}/slow.py\necho never\n", how, "job.sh")
    running.wait()
    assert words(bench) == ["asked", "done"]
    bench.store.wait_until(lambda: bench.has_state(spec, "failed"))
    assert bench.log(spec).splitlines()[:2] == ["begun", "last words"]


def test_so_does_one_in_a_session_of_its_own(bench: Bench, how: str) -> None:
    bench.fifo()
    (bench.shared / "slow.py").write_text(slow(bench))
    _, running = begin(bench, f"setsid python3 {bench.shared}/slow.py &\nsleep 60\n", how, "job.sh")
    running.wait()
    assert words(bench) == ["asked", "done"]


@pytest.mark.parametrize("grace", [0.0, 0.5])
def test_what_ignores_it_is_killed_after_the_grace(bench: Bench, how: str, grace: float) -> None:
    bench.fifo()
    source = slow(bench).replace("signal.SIGTERM, stop", "signal.SIGTERM, signal.SIG_IGN")
    source += "\n"
    begun = time.monotonic()
    spec, running = begin(bench, source, how, cancel_grace=grace)
    running.wait()
    assert time.monotonic() - begun < 20
    bench.store.wait_until(lambda: bench.has_state(spec, "failed"))
    assert bench.state(spec).signal == "SIGKILL"
    assert bench.leftovers() == []


def test_a_job_that_prints_without_end_is_not_stopped_by_it(bench: Bench) -> None:
    """Nobody reads for a launcher that was killed: neither a full pipe nor a closed one may end the last words."""
    bench.fifo()
    source = slow(bench).replace("time.sleep(1)", "print('x' * 3_000_000)")
    spec, running = begin(bench, source, "SIGKILL of the launcher")
    running.wait()
    assert words(bench) == ["asked", "done"]
    bench.store.wait_until(lambda: bench.has_state(spec, "failed"))
    assert bench.log(spec).endswith("xxx\nlast words\n")
