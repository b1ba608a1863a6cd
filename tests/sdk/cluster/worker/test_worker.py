"""The worker process by itself: what it starts, what it tells, and what is left when somebody is killed."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.sdk.cluster.peer import Meeting
from tests.support.process_watch import has_ended, wait_for
from titan_sdk.cluster.worker import client, protocol
from titan_sdk.cluster.worker.client import EndKind, RunEnd, WorkerClient, connect, spawn
from titan_sdk.cluster.worker.protocol import ENDED, MARK, RUN_MARK, StartRequest


class Machine:
    """A worker process in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.tag = secrets.token_hex(6)
        self.workers: list[WorkerClient] = []
        self.environment = {"PATH": os.environ["PATH"], "HOME": "/", "LC_ALL": "C.UTF-8"}

    async def spawn(self) -> WorkerClient:
        worker = await spawn(self.folder, "owner", self.state, "a" * 64, self.environment)
        self.workers.append(worker)
        return worker

    async def again(self, worker: WorkerClient) -> WorkerClient:
        """Another connection to the same process."""
        found = await connect(worker.path)
        assert found is not None
        self.workers.append(found)
        return found

    def plain(self, code: str, run: str = "1", *, grace: float = 20.0, held: bool = False) -> StartRequest:
        script = self.folder / f"{run}.py"
        script.write_text(code)
        return StartRequest(
            run=f"{self.tag}.{run}",
            job=f"DAG-{run}",
            argv=[sys.executable, "-u", str(script), "one"],
            cwd=str(self.folder),
            log=str(self.folder / f"{run}.log"),
            environment="here",
            grace=grace,
            held=held,
        )

    def start(
        self, worker: WorkerClient, code: str, run: str = "1", **more: object
    ) -> asyncio.Future[RunEnd]:
        return worker.start(self.plain(code, run, **more), self.environment)  # type: ignore[arg-type]

    def log(self, run: str = "1") -> str:
        return (self.folder / f"{run}.log").read_text()


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for worker in made.workers:
        await worker.close()
    for worker in made.workers:
        await worker.ended(60)


@pytest.fixture
async def worker(machine: Machine) -> WorkerClient:
    return await machine.spawn()


async def ended(future: asyncio.Future[RunEnd]) -> RunEnd:
    return await asyncio.wait_for(future, 120)


# A script, a child in a session of its own, and that child's child in another; they ignore what they can.
FAMILY = """
import os, signal
name = "script"
if os.fork() == 0:
    name = "child"
    os.setsid()
    if os.fork() == 0:
        name = "grandchild"
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if DEAF:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""


def family(meeting: Meeting, *, deaf: bool = False) -> str:
    words = "f'{name} {os.getpid()} {os.getppid()}'.encode()"
    return FAMILY.replace("DEAF", str(deaf)) + meeting.code("@").replace("b'@'", words)


async def arrivals(meeting: Meeting, goes_on: str = "") -> dict[str, list[str]]:
    """Process number and parent of each of the family, by its name. One of them may go on."""
    found, connections = {}, {}
    for _ in range(3):
        words, connection = await asyncio.to_thread(meeting.arrival)
        name, pid, parent = words.split()
        found[name], connections[name] = [pid, parent], connection
    if goes_on:
        connections[goes_on].close()
    return found


async def test_a_power_cut_that_emptied_the_launchers_files_is_over_with_the_next_start(
    machine: Machine, mocker: MockerFixture
) -> None:
    await machine.spawn()
    name = "titan_runtime/lib/titan_job.py"
    (made,) = machine.state.glob(f"runtime-*/{name}")
    content = made.read_bytes()
    made.write_bytes(b"")
    mocker.patch.object(client, "boot_id", return_value="another")
    await machine.spawn()
    (again,) = set(machine.state.glob(f"runtime-*/{name}")) - {made}
    assert again.read_bytes() == content != b""


async def test_a_program_meets_what_it_was_given(machine: Machine, worker: WorkerClient) -> None:
    code = (
        "import os, sys; print(sys.argv[1:], os.getcwd(), sys.stdin.read(), os.getsid(0) == os.getpid(),"
        " sorted(os.environ), [fd for fd in os.listdir('/proc/self/fd') if int(fd) > 2][1:])"
    )
    assert await ended(machine.start(worker, code)) == RunEnd(EndKind.ENDED, 0)
    names = sorted([*machine.environment, MARK, RUN_MARK])
    assert machine.log() == f"['one'] {machine.folder}  True {names} []\n"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit(7)", 7),
        ("raise SystemExit(255)", 255),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
        ("import os; os.kill(0, 15)", 143),
    ],
)
async def test_how_a_program_ended(machine: Machine, worker: WorkerClient, code: str, told: int) -> None:
    assert await ended(machine.start(worker, code)) == RunEnd(EndKind.ENDED, told)


async def test_what_cannot_be_started_says_why_and_may_be_tried_again(
    machine: Machine, worker: WorkerClient
) -> None:
    start = machine.plain("print('ran')")._replace(cwd=str(machine.folder / "later"))
    end = await ended(worker.start(start, machine.environment))
    assert (end.how, end.errno) == (EndKind.FAILED, errno.ENOENT)
    assert "later" in end.why
    (machine.folder / "later").mkdir()
    assert (await ended(worker.start(start, machine.environment))).code == 0
    assert machine.log() == "ran\n"


async def test_every_descendant_ends_with_its_program(
    machine: Machine, worker: WorkerClient, meeting: Meeting
) -> None:
    end = machine.start(worker, family(meeting, deaf=True))
    found = await arrivals(meeting, goes_on="script")
    assert (await ended(end)).code == 0
    assert all(has_ended(pid) for pid, _ in found.values())


@pytest.mark.parametrize(("deaf", "grace"), [(False, 60.0), (True, 1.0)], ids=["hears", "deaf"])
async def test_a_stop_ends_all_of_it(
    machine: Machine, worker: WorkerClient, meeting: Meeting, deaf: bool, grace: float
) -> None:
    end = machine.start(worker, family(meeting, deaf=deaf), grace=grace)
    found = await arrivals(meeting)
    worker.stop(f"{machine.tag}.1")
    assert (await ended(end)).how is EndKind.ENDED
    assert all(has_ended(pid) for pid, _ in found.values())


async def test_a_killed_guard_takes_its_program_along(
    machine: Machine, worker: WorkerClient, meeting: Meeting
) -> None:
    end = machine.start(worker, family(meeting, deaf=True))
    found = await arrivals(meeting)
    os.kill(int(found["script"][1]), signal.SIGKILL)
    assert await ended(end) == RunEnd(EndKind.ENDED, 137)
    assert all(has_ended(pid) for pid, _ in found.values())
    assert (await ended(machine.start(worker, "", "2"))).code == 0


@pytest.mark.parametrize("word", ["stop", "stop now"])
async def test_a_guard_that_stands_still_delays_an_immediate_stop_by_nothing(
    machine: Machine, worker: WorkerClient, meeting: Meeting, word: str
) -> None:
    end = machine.start(worker, family(meeting, deaf=True))
    found = await arrivals(meeting)
    os.kill(int(found["script"][1]), signal.SIGSTOP)
    if word == "stop":
        worker.stop(f"{machine.tag}.1")
    worker.stop(f"{machine.tag}.1", now=True)
    assert (await ended(end)).code == 137
    assert all(has_ended(pid) for pid, _ in found.values())


async def test_a_killed_worker_process_takes_all_runs_along(
    machine: Machine, worker: WorkerClient, meeting: Meeting
) -> None:
    end = machine.start(worker, family(meeting, deaf=True), grace=0.5)
    found = await arrivals(meeting)
    os.kill(worker.pid, signal.SIGKILL)
    assert (await ended(end)).how is EndKind.LOST
    await asyncio.to_thread(wait_for, lambda: all(has_ended(pid) for pid, _ in found.values()))
    assert (await ended(machine.start(worker, "", "2"))).how is EndKind.LOST


async def test_the_next_one_follows_what_runs_and_learns_what_ended(
    machine: Machine, worker: WorkerClient, meeting: Meeting
) -> None:
    machine.start(worker, meeting.code("up") + "raise SystemExit(3)")
    await asyncio.to_thread(meeting.arrival)
    await worker.close()
    following = await machine.again(worker)
    assert following.pid == worker.pid
    assert [(run["run"], run["job"], run["ended"]) for run in following.runs] == [
        (f"{machine.tag}.1", "DAG-1", False)
    ]
    end = following.follow(f"{machine.tag}.1")
    meeting.let_go()
    assert await ended(end) == RunEnd(EndKind.ENDED, 3)
    # Nobody has forgotten it yet.
    assert await ended(following.follow(f"{machine.tag}.1")) == RunEnd(EndKind.ENDED, 3)
    following.forget(f"{machine.tag}.1")
    assert (await ended(following.follow(f"{machine.tag}.1"))).how is EndKind.UNKNOWN


@pytest.mark.parametrize("is_renamed", [False, True])
async def test_what_nobody_was_told_of_is_kept_in_a_file(
    machine: Machine, worker: WorkerClient, meeting: Meeting, is_renamed: bool
) -> None:
    machine.start(worker, meeting.code("up") + "raise SystemExit(4)")
    await asyncio.to_thread(meeting.arrival)
    await worker.close()
    if is_renamed:
        machine.state = machine.state.rename(machine.folder / "renamed")
    meeting.let_go()
    await worker.ended(60)
    folder = str(machine.state / ENDED)
    assert protocol.ended_code(folder, f"{machine.tag}.1") == (True, 4)
    # And what is not there was never begun.
    assert protocol.ended_code(folder, worker.name) == (True, None)
    assert await connect(worker.path) is None


async def test_a_run_that_somebody_was_told_never_began_never_begins(
    machine: Machine, worker: WorkerClient
) -> None:
    following = await machine.again(worker)
    assert (await ended(following.follow(f"{machine.tag}.1"))).how is EndKind.UNKNOWN
    machine.start(worker, "print('began')")
    assert (await ended(machine.start(worker, "", "2"))).code == 0
    assert not (machine.folder / "1.log").exists()


async def test_a_held_run_ends_with_the_connection_that_holds_it(
    machine: Machine, worker: WorkerClient, meeting: Meeting
) -> None:
    holder = await machine.again(worker)
    machine.start(holder, family(meeting), held=True)
    found = await arrivals(meeting)
    end = worker.follow(f"{machine.tag}.1")
    await holder.close()
    assert (await ended(end)).how is EndKind.ENDED
    assert all(has_ended(pid) for pid, _ in found.values())


async def test_no_end_is_kept_for_a_holder_that_is_gone(
    machine: Machine, worker: WorkerClient, meeting: Meeting
) -> None:
    machine.start(worker, meeting.code("up"), held=True)
    await asyncio.to_thread(meeting.arrival)
    await worker.close()
    await worker.ended(60)
    assert [path.name for path in (machine.state / ENDED).iterdir()] == [worker.name]


async def test_a_connection_that_is_cut_is_made_again(
    machine: Machine, worker: WorkerClient, meeting: Meeting
) -> None:
    end = machine.start(worker, meeting.code("up") + "raise SystemExit(5)")
    await asyncio.to_thread(meeting.arrival)
    assert worker._writer is not None
    worker._writer.transport.abort()
    meeting.let_go()
    assert await ended(end) == RunEnd(EndKind.ENDED, 5)
    assert (await ended(machine.start(worker, "", "2"))).code == 0


async def test_nonsense_ends_the_connection_and_nothing_else(machine: Machine, worker: WorkerClient) -> None:
    for line in (b"nonsense\n", b"[]\n", b'{"do":"start"}\n', b'{"do":"stop"}\n', b"\xff\n"):
        reader, writer = await asyncio.open_unix_connection(worker.path)
        writer.write(line)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
    assert (await ended(machine.start(worker, ""))).code == 0


async def test_sigterm_to_it_stops_its_runs(machine: Machine, worker: WorkerClient, meeting: Meeting) -> None:
    end = machine.start(worker, family(meeting))
    found = await arrivals(meeting)
    os.kill(worker.pid, signal.SIGTERM)
    assert (await ended(end)).how is EndKind.ENDED
    assert all(has_ended(pid) for pid, _ in found.values())


async def test_many_at_once(machine: Machine, worker: WorkerClient) -> None:
    ends = [machine.start(worker, f"import os; os._exit({number % 5})", str(number)) for number in range(60)]
    assert [(await ended(end)).code for end in ends] == [number % 5 for number in range(60)]


# Which guard it has, what that is called, and where it is.
GUARD = "import os; p = os.getppid(); print(p, open(f'/proc/{p}/comm').read().strip(), os.getcwd())"


async def guarded(machine: Machine, worker: WorkerClient, run: str) -> int:
    """The guard of a program that has run."""
    folder = machine.folder / f"folder-{run}"
    folder.mkdir()
    end = await ended(worker.start(machine.plain(GUARD, run)._replace(cwd=str(folder)), machine.environment))
    assert end == RunEnd(EndKind.ENDED, 0)
    folder.rmdir()
    pid, name, where = machine.log(run).split()
    assert (name, where) == (protocol.name_of(f"{machine.tag}.{run}"), str(folder))
    return int(pid)


async def test_a_guard_serves_one_program_after_another(machine: Machine, worker: WorkerClient) -> None:
    first = await guarded(machine, worker, "1")
    os.kill(first, signal.SIGTERM)  # as a program's last words may: that is no word to the next one
    assert await guarded(machine, worker, "2") == first
    os.kill(first, signal.SIGKILL)
    await asyncio.to_thread(wait_for, lambda: has_ended(str(first)))
    assert await guarded(machine, worker, "3") != first


async def test_a_program_at_once_has_a_guard_of_its_own(
    machine: Machine, worker: WorkerClient, meeting: Meeting
) -> None:
    first = await guarded(machine, worker, "1")
    words = "str(os.getppid()).encode()"
    end = machine.start(worker, "import os\n" + meeting.code("@").replace("b'@'", words), "2")
    word, connection = await asyncio.to_thread(meeting.arrival)
    assert int(word) == first
    assert await guarded(machine, worker, "3") != first
    connection.close()
    await ended(end)


async def test_a_stopped_program_does_not_stop_the_next_one(
    machine: Machine, worker: WorkerClient, meeting: Meeting
) -> None:
    await guarded(machine, worker, "1")
    end = machine.start(worker, family(meeting), "2")
    await arrivals(meeting)
    worker.stop(f"{machine.tag}.2")
    later = machine.start(worker, "", "3")
    assert (await ended(end)).code == 143
    assert (await ended(later)).code == 0
    await guarded(machine, worker, "4")


async def test_a_program_that_no_message_can_hold_is_started(machine: Machine, worker: WorkerClient) -> None:
    await guarded(machine, worker, "1")
    start = machine.plain("import sys; print(sum(map(len, sys.argv[1:])))", "2")
    start = start._replace(argv=[*start.argv[:3], *["x" * 100_000] * 5])
    assert (await ended(worker.start(start, machine.environment))).code == 0
    assert machine.log("2") == "500000\n"
    await guarded(machine, worker, "3")


async def test_idle_guards_are_few_and_leave_with_the_worker_process(
    machine: Machine, worker: WorkerClient
) -> None:
    ends = [machine.start(worker, "", str(number)) for number in range(20)]
    assert {(await ended(end)).code for end in ends} == {0}
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")

    def found() -> list[str]:
        return children.read_text().split()

    await asyncio.to_thread(wait_for, lambda: 0 < len(found()) <= 8)
    left = found()
    await worker.close()
    await worker.ended(60)
    assert all(has_ended(pid) for pid in left)
