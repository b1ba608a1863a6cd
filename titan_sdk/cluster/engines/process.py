"""The embedded engine: a job is a process of this machine, child of a keeper that outlives the master.

    master == commands ==> keeper (see keeper.py)
                            `-- the job: leader of its own session and process group, output appended to its log

Nothing is sent to a keeper before the master has stored which keeper the run belongs to. If the master dies
before that, nothing was started; if it dies later, the keeper leaves the exit status in a file that the next
master reads. Nothing is polled, no thread waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from titan_sdk.cluster.artifacts import Area, FileArea
from titan_sdk.cluster.engines import orphans, processes
from titan_sdk.cluster.engines.base import NoRoom, Placed, Process, RunRequest, RunResult, StagingFailed
from titan_sdk.cluster.engines.endings import ending
from titan_sdk.cluster.engines.keeper_link import Keeper, Kind, Launch
from titan_sdk.cluster.engines.keepers import Keepers
from titan_sdk.cluster.engines.ports import answers_here, port_problem_here
from titan_sdk.cluster.engines.staging import (
    ARCHIVES,
    PASSING,
    StagingFolders,
    graces,
    stage,
)
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.scheduler import Outcome

__all__ = ["ProcessEngine", "job_environment"]

log = logging.getLogger(__name__)

_KEEPER_SECONDS = 5.0
"""After a run's grace, for its keeper to say that it is over."""
_RETRY_SECONDS = 1.0
_TOO_EARLY = "it was killed before it began"
_LOST_EARLY = "the process that was to start it was ended from outside"
_FOREIGN = (
    "it ran when this data directory was copied from another one, whose master it belongs to; "
    "submit it again if it is to run here, too"
)
_MAX_EXITS_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Run:
    process: Process
    over: asyncio.Future[RunResult]
    """Set when nothing of it is left."""
    keeper: Keeper | None = None
    launch: Launch | None = None
    """What the keeper is sent."""
    pid: int | None = None
    pidfd: int | None = None
    """These two of a run that is followed, not heard of through a keeper; ``leader`` stays when it has ended."""
    leader: int = 0
    asked: bool = False
    """Whether an earlier master has sent it SIGTERM."""
    waits: bool = False
    """Whether it was told that it waits for the machine."""
    until: float = 0.0
    """When what is left of a run that was killed may not go on any longer; the loop's time."""
    task: asyncio.Task[None] | None = None
    """Following it, or looking for what it has left."""

    @property
    def request(self) -> RunRequest:
        return self.process.request

    @property
    def killed(self) -> bool:
        return self.process.killed


def job_environment(environ: Mapping[str, str], worker: str, host: str, port: int) -> dict[str, str]:
    """What a job inherits: the master's environment without the master's own settings, and where it runs.

    ``TITAN_RUNTIME_*`` are settings of the runtime on a worker, so these stay.
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith("TITAN_") or name.startswith("TITAN_RUNTIME_")
    }
    here = str(Path(sys.executable).parent)
    inherited["PATH"] = here + os.pathsep + inherited.get("PATH", os.defpath)
    return {**inherited, "TITAN_WORKER": worker, "TITAN_HOST": host, "TITAN_PORT": str(port)}


class ProcessEngine:
    """See the module. Belongs to the thread of the loop that is running when it is made.

    Args:
        environment: the environment of a worker's jobs, by the worker's name.
        uploads: where archives are; by default the data directory's own.
        shared: whether the store is not in the data directory.
        warm: whether Python jobs are forks of a fork server.
    """

    def __init__(
        self,
        data: DataDir,
        environment: Callable[[str], Mapping[str, str]],
        *,
        uploads: Area | None = None,
        shared: bool = False,
        warm: bool = False,
    ) -> None:
        self._data = data
        self._uploads = FileArea(data.uploads) if uploads is None else uploads
        self._shared, self._warm = shared, warm
        self._loop = asyncio.get_running_loop()
        self._folders = StagingFolders()
        self._keepers = Keepers(data.exits, environment, self._on_word, self._on_lost_keeper)
        self._runs: dict[str, _Run] = {}
        self._staged: dict[str, _Run] = {}
        """Runs that have not begun."""
        self._closing = False
        self._idle = asyncio.Event()

    # ------------------------------------------------------------------ starting

    chooses_places = False
    keeps_runs = False
    trouble: str | None = None

    async def open(self) -> None:
        """See ``Engine``."""

    def port_problem(self, port: int) -> str | None:
        """See ``Engine``."""
        return port_problem_here(port)

    async def answers(self, process: Process, port: int) -> None:
        """See ``Engine``."""
        del process  # whoever listens there is taken for it
        await answers_here(port)

    async def stage(self, request: RunRequest) -> Process:
        """Put its files in place, and choose a keeper. Archives are unpacked in a thread."""
        if request.line.header in ARCHIVES:
            command = await asyncio.to_thread(stage, request, self._data, self._uploads, self._folders)
        else:
            command = stage(request, self._data, self._uploads, self._folders)
        argv, kind = command.argv, Kind.COLD
        if self._warm and command.python and request.line.header not in ARCHIVES:
            kind = Kind.SCRIPTS
        elif self._warm and command.launcher is not None and self._keepers.is_first_python(request.worker):
            argv, kind = (sys.executable, "-EsSx", command.launcher), Kind.LAUNCHERS
        try:
            keeper = self._keepers.reserve(request.worker, kind)
        except OSError as exc:
            self._folders.give_back(self._data.staging(request.worker, request.run))
            if exc.errno in PASSING:
                raise NoRoom(f"it cannot be started at the moment: {exc}") from exc
            raise StagingFailed(f"it could not be started: {exc}") from exc
        output = self._data.log_path(request.job_id)
        rest = graces(request.line)[1]
        launch = Launch(request.run, request.worker, argv, command.cwd, output, {}, kind, rest)
        process = Process(request, keeper.handle)
        self._staged[request.run] = _Run(process, self._loop.create_future(), keeper, launch)
        return process

    async def run(self, process: Process, placed: Placed) -> RunResult:
        """See ``Engine``."""
        del placed
        run = self._runs[process.run] = self._staged.pop(process.run)
        self._launch(run)
        return await run.over

    def _launch(self, run: _Run) -> None:
        if run.process.run not in self._runs:
            return
        if run.killed:
            self._finish(run, RunResult(Outcome.FAILURE, None, _TOO_EARLY))
        elif run.keeper is None or run.launch is None:
            self._finish(run, RunResult(Outcome.INTERRUPTED, None, _LOST_EARLY))
        else:
            self._keepers.launch(run.keeper, run.launch)

    @staticmethod
    def _wait_for_room(run: _Run, why: str) -> None:
        if not run.waits:
            log.error("job %s waits: it cannot be started at the moment: %s", run.request.job_id, why)
        run.waits = True

    # ------------------------------------------------------------------ ending

    def kill(self, process: Process) -> None:
        """SIGTERM to the process group; after the grace SIGKILL to that, and to whatever has left it."""
        if process.killed:
            return
        process.killed = True
        found = self._runs.get(process.run)
        if found is None:
            return  # looked at when it is re-attached
        grace = graces(process.request.line)[0]
        found.until = self._loop.time() + grace
        if found.keeper is not None:
            found.keeper.stop_run(process.run, grace)
        else:
            self._stop_followed(found)

    def _stop_followed(self, run: _Run) -> None:
        """Of a run whose keeper takes no orders."""
        late = self._loop.time() >= run.until
        if run.pid is not None and run.pidfd is not None:
            if late or not run.asked:
                number = signal.SIGKILL if late else signal.SIGTERM
                processes.signal_leader_and_group(run.pid, run.pidfd, number)
            if not late:
                self._loop.call_at(run.until, self._stop_followed, run)

    def _on_word(self, name: str, word: str) -> None:
        """A keeper tells what became of a run."""
        run = self._runs.get(name)
        if run is None:
            return
        if word.startswith("!"):
            number, _, why = word[1:].partition(" ")
            if run.killed:
                self._finish(run, RunResult(Outcome.FAILURE, None, _TOO_EARLY))
            elif int(number) in PASSING:
                self._wait_for_room(run, why)
                self._loop.call_later(_RETRY_SECONDS, self._launch, run)
            else:
                self._finish(run, RunResult(Outcome.FATAL, None, f"it could not be started: {why}"))
        else:
            self._conclude(run, word)

    def _conclude(self, run: _Run, word: str | None) -> None:
        result = _result(run, word)
        if run.killed:
            # The slot is not free while something of the run may be alive.
            run.task = self._loop.create_task(self._end_rest(run, result))
        else:
            self._finish(run, result)

    async def _end_rest(self, run: _Run, result: RunResult) -> None:
        grace, rest = graces(run.request.line)
        # A keeper that takes orders has seen to it already.
        patience = 0.0 if run.keeper is not None else min(max(run.until - self._loop.time(), 0.0), grace)
        asked = 0 if rest else run.leader
        await asyncio.to_thread(processes.end_marked, orphans.mark_of(run.request.run), patience, asked)
        self._finish(run, result)

    def _finish(self, run: _Run, result: RunResult) -> None:
        if self._runs.pop(run.process.run, None) is None:
            return
        if run.keeper is not None:
            self._keepers.done(run.keeper)
        if not run.over.done():
            run.over.set_result(result)
        if self._closing and not self._runs:
            self._idle.set()

    # ------------------------------------------------------------------ restarts, lost keepers

    async def reattach(self, process: Process, placed: Placed) -> RunResult:
        """Watch the process if it lives; otherwise say what it left."""
        del placed
        run = self._runs[process.run] = _Run(process, self._loop.create_future())
        run.until = self._loop.time() + graces(process.request.line)[0]
        run.task = self._loop.create_task(self._follow(run))
        return await run.over

    def _on_lost_keeper(self, keeper: Keeper) -> None:
        log.error("a keeper of jobs was ended from outside; the exit statuses of its running jobs are lost")
        for staged in self._staged.values():
            if staged.keeper is keeper:
                staged.keeper = None
        for run in list(self._runs.values()):
            if run.keeper is keeper:
                run.keeper, run.launch = None, None
                run.task = self._loop.create_task(self._follow(run))

    async def _follow(self, run: _Run) -> None:
        def found(pid: int, pidfd: int, asked: bool) -> None:
            run.pid, run.pidfd, run.leader, run.asked = pid, pidfd, pid, asked
            if run.killed:
                self._stop_followed(run)

        name, exits = run.process.run, self._data.exits
        try:
            word = await orphans.follow(exits, name, run.process.handle, found, shared=self._shared)
        finally:
            run.pid = run.pidfd = None
        if word == orphans.FOREIGN:
            self._finish(run, RunResult(Outcome.FATAL, None, _FOREIGN, foreign=True))
        else:
            self._conclude(run, word)

    def _discard(self, run: str, handle: str) -> None:
        """End it without its keeper; blocks for a moment."""
        mark = orphans.mark_of(run)
        pid = orphans.settle(self._data.exits, run, handle)
        pidfd = processes.open_live(pid, mark) if pid else None
        if pid and pidfd is not None:
            processes.signal_leader_and_group(pid, pidfd, signal.SIGKILL)
            os.close(pidfd)
        processes.end_marked(mark)

    def forget(self, process: Process) -> None:
        """See ``Engine``."""
        unused = self._staged.pop(process.run, None)
        if unused is not None and unused.keeper is not None:
            self._keepers.done(unused.keeper)
        self._folders.give_back(self._data.staging(process.request.worker, process.run))
        if not self._runs:
            self._shorten_exits()

    def _shorten_exits(self) -> None:
        """Nobody runs, so nobody appends: empty the file of exits if it has grown."""
        with contextlib.suppress(OSError):
            if self._data.exits.stat().st_size > _MAX_EXITS_BYTES:
                os.truncate(self._data.exits, 0)

    async def abandon(self) -> None:
        """See ``Engine``: the keepers carry on, and write down what becomes of the runs."""
        self._closing = True
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        self._runs.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keepers.abandon()

    async def close(self) -> None:
        self._closing = True
        for run in list(self._runs.values()):
            self.kill(run.process)
        if self._runs:
            latest = max(run.until for run in self._runs.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(latest + _KEEPER_SECONDS):
                    await self._idle.wait()
        for run in list(self._runs.values()):
            log.error(
                "the process that started job %s does not answer; the job is killed", run.request.job_id
            )
            await asyncio.to_thread(self._discard, run.process.run, run.process.handle)
            if run.task is not None:
                run.task.cancel()
            self._finish(run, RunResult(Outcome.FAILURE, None, "it was killed"))
        self._keepers.stop()


def _result(run: _Run, word: str | None) -> RunResult:
    if word == orphans.NEVER_BEGAN and not run.killed:
        return RunResult(Outcome.INTERRUPTED, None, "the master ended before the job began")
    return ending(int(word) if word is not None and word.isdigit() else None, killed=run.killed)
