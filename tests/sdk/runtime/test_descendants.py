"""Nothing of a job stays alive: not at its end, not when the launcher or the guard is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime_bench import Bench, Running, Watch

# A family of three: the script, a child in a session of its own, and that child's child, which ignores SIGTERM
# and has closed everything. Each tells its pid through the FIFO; the script then goes on with `{then}`.
FAMILY = """
import os, signal, sys, time
def tell():
    with open({fifo!r}, "a") as pipe:
        pipe.write("%d %d\\n" % (os.getpid(), os.getppid()))
def forever():
    while True:
        time.sleep(60)
keep = open({fifo!r}, "a")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        tell()
        os.closerange(0, 100)
        forever()
    tell()
    os.close(keep.fileno())
    forever()
tell()
keep.close()
open({go!r}).read()
{then}
"""


class Family:
    """The processes of one running job."""

    def __init__(self, running: Running, pairs: list[tuple[int, int]]) -> None:
        self.running = running
        self.watches = [Watch(pid) for pid, _ in pairs]
        members = {pid for pid, _ in pairs}
        (self.guard,) = {parent for _, parent in pairs if parent not in members}

    def all_ended(self) -> bool:
        return all(watch.has_ended() for watch in self.watches)


@pytest.fixture
def families() -> Iterator[list[Family]]:
    made: list[Family] = []
    yield made
    for family in made:
        for watch in family.watches:
            watch.close()


def start(bench: Bench, families: list[Family], then: str = "forever()", **environment: str) -> Family:
    fifo, go = bench.fifo(), bench.fifo("go")
    running = bench.start(bench.spec(FAMILY.format(fifo=str(fifo), go=str(go), then=then)), **environment)
    pairs: list[tuple[int, int]] = []
    with fifo.open() as pipe:
        while len(pairs) < 3:
            pid, parent = pipe.readline().split()
            pairs.append((int(pid), int(parent)))
    family = Family(running, pairs)
    families.append(family)
    go.open("w").close()
    return family


def test_cancel_of_the_launcher_alone_ends_every_descendant(bench: Bench, families: list[Family]) -> None:
    """A worker cancels by SIGKILL of the process it started, and of no other."""
    family = start(bench, families)
    guard = Watch(family.guard)
    os.kill(family.running.pid, signal.SIGKILL)
    assert family.all_ended()
    assert guard.has_ended()
    guard.close()
    assert family.running.wait().code == -signal.SIGKILL
    assert bench.leftovers() == []


def test_death_of_the_guard_ends_every_descendant_and_is_recorded(
    bench: Bench, families: list[Family]
) -> None:
    fifo = bench.fifo("second")
    spec = bench.spec(f"import os, time\nopen({str(fifo)!r}, 'w').write('%d' % os.getppid())\ntime.sleep(60)")
    running = bench.start(spec)
    os.kill(int(fifo.read_text()), signal.SIGKILL)
    done = running.wait()
    assert done.code == 137
    state = bench.state(spec)
    assert (state.state, state.signal) == ("failed", "SIGKILL")
    assert state.reason is not None
    assert "guard process ended early (killed by SIGKILL)" in state.reason
    family = start(bench, families)
    os.kill(family.guard, signal.SIGKILL)
    assert family.all_ended()


def test_death_of_launcher_and_guard_at_once_ends_the_users_process(bench: Bench) -> None:
    fifo = bench.fifo()
    running = bench.start(
        bench.spec(
            f"import os, time\nopen({str(fifo)!r}, 'w').write('%d %d' % (os.getpid(), os.getppid()))\ntime.sleep(60)"
        )
    )
    user, guard = map(int, fifo.read_text().split())
    watch = Watch(user)
    os.kill(running.pid, signal.SIGSTOP)
    os.kill(guard, signal.SIGKILL)
    os.kill(running.pid, signal.SIGKILL)
    assert watch.has_ended()
    watch.close()
    running.wait()


def test_the_normal_end_ends_background_processes_at_once(bench: Bench, families: list[Family]) -> None:
    family = start(bench, families, then="print('done')")
    assert family.running.wait().code == 0
    assert family.all_ended()


@pytest.mark.parametrize("then", ["os.kill(os.getpid(), 9)", "sys.exit(3)"])
def test_a_bad_end_does_so_too(bench: Bench, families: list[Family], then: str) -> None:
    family = start(bench, families, then=then)
    assert family.running.wait().code in (3, 137)
    assert family.all_ended()


def test_a_stopped_job_leaves_nothing(bench: Bench, families: list[Family]) -> None:
    family = start(bench, families, TITAN_RUNTIME_GRACE="0.2")
    os.kill(family.running.pid, signal.SIGTERM)
    assert family.running.wait().code == 143
    assert family.all_ended()


def test_a_fork_bomb_of_short_lived_processes_is_caught(bench: Bench) -> None:
    """Each process forks its successor and exits: whoever looks sees another pid each time."""
    fifo = bench.fifo()
    source = f"""
import os, time
end = os.open({str(fifo)!r}, os.O_WRONLY)
os.write(end, b"started")
if os.fork() == 0:
    while True:
        if os.fork():
            os._exit(0)
        time.sleep(0.0005)
time.sleep(60)
"""
    running = bench.start(bench.spec(source))
    with fifo.open("rb") as pipe:
        assert pipe.read(7) == b"started"
        os.kill(running.pid, signal.SIGKILL)
        # The last holder of the writing end is gone when this returns.
        assert pipe.read() == b""
    running.wait()


def test_the_guard_holds_the_workers_output_and_nothing_else_of_it(bench: Bench) -> None:
    fifo = bench.fifo()
    running = bench.start(
        bench.spec(f"import os, time\nopen({str(fifo)!r}, 'w').write('%d' % os.getppid())\ntime.sleep(60)")
    )
    guard = int(fifo.read_text())
    held = {os.readlink(entry) for entry in Path(f"/proc/{guard}/fd").iterdir()}
    stdout = os.readlink(f"/proc/{running.pid}/fd/1")
    assert stdout.startswith("pipe:")
    # A real worker gives the slot away when that is closed, which must wait until nothing of the job is left.
    assert stdout in held
    assert not [name for name in held if name.startswith(("socket:", "/")) and name != "/dev/null"]
    running.process.kill()
    running.wait()


def test_the_job_runs_in_its_own_session_so_killing_its_group_kills_only_it(bench: Bench) -> None:
    spec = bench.spec("kill -KILL 0", "group.sh")
    assert bench.run(spec).code == 137
    assert bench.state(spec).signal == "SIGKILL"
