"""The embedded engine: a job is a process of this machine, started by a worker process that outlives the master.

Nothing is sent to that process before the master has stored which one the run belongs to. If the master dies before that,
nothing was started; if it dies later, the next master asks the same process. Nothing is polled, no thread waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from titan_sdk.cluster.artifacts import Area, FileArea
from titan_sdk.cluster.engines import earlier_version
from titan_sdk.cluster.engines.base import (
    NoRoom,
    Outcome,
    Placed,
    Process,
    RunRequest,
    RunResult,
    StagingFailed,
)
from titan_sdk.cluster.engines.exit_codes import result_of
from titan_sdk.cluster.engines.ports import answers_here, port_problem_here
from titan_sdk.cluster.engines.staging import ARCHIVES, PASSING, graces, stage, unstage
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.worker.client import EndKind, RunEnd, WorkerClient, python_as_found
from titan_sdk.cluster.worker.local_workers import FOREIGN, LocalWorkers, RunHandle, end_run
from titan_sdk.cluster.worker.protocol import StartRequest
from titan_sdk.errors import TitanError
from titan_sdk.runtime.bundle import runtime_bundle

__all__ = ["ProcessEngine", "job_environment"]

log = logging.getLogger(__name__)

_WORKER_SECONDS = 5.0
"""After a run's grace, for its worker process to say that it is over."""
_RETRY_SECONDS = 1.0
_TOO_EARLY = RunResult(Outcome.FAILURE, None, "it was killed before it began")
_NEVER_BEGAN = RunResult(Outcome.INTERRUPTED, None, "the master ended before the job began")
_LOST_EARLY = RunResult(Outcome.INTERRUPTED, None, "the process that was to start it was ended from outside")
_FOREIGN = RunResult(
    Outcome.FATAL,
    None,
    "it ran when this data directory was copied from another one, whose master it belongs to; "
    "submit it again if it is to run here, too",
    foreign=True,
)
_SETTINGS = ("TITAN_RUNTIME_", "LC_", "LANG")
"""What begins the variables that a launcher reads when it is loaded."""


@dataclass(slots=True)
class _ProcessRun:
    process: Process
    grace: float
    start: StartRequest | None = None
    """``None`` of one that an earlier master has started."""
    worker: WorkerClient | None = None
    until: float = 0.0
    """When a run that was killed has to be over; the loop's time."""
    is_given_up: bool = False
    """Whether its worker process was killed, as it stood still."""


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
        held: whether jobs end with this process, even if that is killed: no later master will ask for them.

    Raises:
        OSError: the data directory cannot be written.
    """

    def __init__(
        self,
        data: DataDir,
        environment: Callable[[str], Mapping[str, str]],
        *,
        uploads: Area | None = None,
        shared: bool = False,
        held: bool = False,
    ) -> None:
        self._data = data
        self._held = held
        self._uploads = FileArea(data.uploads) if uploads is None else uploads
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self._local_workers = LocalWorkers(
            data.root, runtime_bundle().sha256, self._own_environment, shared=shared
        )
        self._first_environment: Mapping[str, str] = {}
        """Of the worker process."""
        self._forks: dict[str, bool] = {}
        self._runs: dict[str, _ProcessRun] = {}
        """From the staging of a run, or its re-attaching, until it is forgotten."""
        self._active: set[str] = set()
        """Those that may have a process."""
        self._changed = asyncio.Event()

    # ------------------------------------------------------------------ starting

    chooses_places = False
    keeps_runs = False
    problem: str | None = None

    async def open(self) -> None:
        """See ``Engine``."""
        await asyncio.sleep(0)  # every run of an earlier master is asked for now
        followed = {name: self._runs[name].process.handle for name in self._active}
        await self._local_workers.tidy(followed.keys(), list(followed.values()))

    def port_problem(self, port: int) -> str | None:
        """See ``Engine``."""
        return port_problem_here(port)

    async def answers(self, process: Process, port: int) -> None:
        """See ``Engine``."""
        del process  # whoever listens there is taken for it
        await answers_here(port)

    async def stage(self, request: RunRequest) -> Process:
        """Put its files in place, and see to a worker process. Archives are unpacked in a thread."""
        worker = await self._worker(request.worker)
        forks = self._may_fork(request.worker)
        if request.line.header in ARCHIVES:
            command = await asyncio.to_thread(stage, request, self._data, self._uploads)
        else:
            command = stage(request, self._data, self._uploads, forks=forks)
        start = StartRequest(
            request.run,
            request.job_id,
            list(command.argv),
            command.cwd,
            self._data.log_path(request.job_id),
            request.worker,
            command.grace,
            command.rest,
            command.spec or "",
            self._held,
        )
        process = Process(request, self._local_workers.handle(worker))
        self._runs[request.run] = _ProcessRun(process, command.grace, start, worker)
        return process

    async def _worker(self, worker: str) -> WorkerClient:
        if not self._first_environment:
            self._first_environment = self._environment(worker)
        try:
            return await self._local_workers.worker()
        except TitanError as exc:
            raise NoRoom(f"it cannot be started at the moment: {exc}") from exc
        except OSError as exc:
            # The last two: a worker process that ended or stood still at its start, as for lack of memory.
            if exc.errno in PASSING or isinstance(exc, ConnectionError | TimeoutError):
                raise NoRoom(f"it cannot be started at the moment: {exc}") from exc
            raise StagingFailed(f"it could not be started: {exc}") from exc

    def _own_environment(self) -> Mapping[str, str]:
        return self._first_environment

    def _may_fork(self, worker: str) -> bool:
        """Whether a launcher that is loaded meets what a shell on this worker would start: this very Python, and the
        same settings.
        """
        if worker not in self._forks:
            environment = self._environment(worker)
            found = shutil.which("python3", path=environment.get("PATH"))
            self._forks[worker] = (
                found is not None
                and found == python_as_found()
                and "BASH_ENV" not in environment
                and _settings(environment) == _settings(self._first_environment)
            )
        return self._forks[worker]

    async def run(self, process: Process, placed: Placed) -> RunResult:
        """See ``Engine``."""
        del placed
        run = self._runs[process.run]
        assert run.start is not None
        assert run.worker is not None
        with self._running(process):
            is_told = False
            while run.worker.is_alive:
                if process.killed:
                    return _TOO_EARLY
                end = await run.worker.start(run.start, self._environment(process.request.worker))
                if end.how is not EndKind.FAILED:
                    return await self._result(run, end)
                if end.errno not in PASSING:
                    return RunResult(Outcome.FATAL, None, f"it could not be started: {end.why}")
                if not is_told:
                    job_id = process.request.job_id
                    log.error("job %s waits: it cannot be started at the moment: %s", job_id, end.why)
                is_told = True
                await asyncio.sleep(_RETRY_SECONDS)
            return _LOST_EARLY

    # ------------------------------------------------------------------ following, ending

    async def reattach(self, process: Process, placed: Placed) -> RunResult:
        """Ask the process that has it, or read how it ended."""
        del placed
        run = self._runs[process.run] = _ProcessRun(process, graces(process.request.line)[0])
        with self._running(process):
            handle = RunHandle.of(process.handle)
            if handle is None:
                return await self._result(run, earlier_version.end_of(self._data.root, process))
            run.worker, end = await self._local_workers.follow(handle, process.run)
            if isinstance(end, RunEnd):
                return await self._result(run, end)
            if process.killed:
                self._stop(run)
            return await self._result(run, await end)

    @contextlib.contextmanager
    def _running(self, process: Process) -> Iterator[None]:
        self._active.add(process.run)
        try:
            yield
        finally:
            self._active.discard(process.run)
            self._changed.set()

    async def _result(self, run: _ProcessRun, end: RunEnd) -> RunResult:
        process = run.process
        if end == FOREIGN:
            return _FOREIGN
        if end.how is EndKind.UNKNOWN and not process.killed:
            return _NEVER_BEGAN
        if end.how is EndKind.LOST:
            log.error("the process that started job %s was ended from outside", process.request.job_id)
            # Nobody may be above what is left, so the slot is not free before that was looked for.
            await end_run(process.run, 0.0 if run.is_given_up else run.grace)
        return result_of(end.code, killed=process.killed)

    def kill(self, process: Process) -> None:
        """See ``Engine``."""
        if process.killed:
            return
        process.killed = True
        if process.run in self._active:
            self._stop(self._runs[process.run])

    def _stop(self, run: _ProcessRun) -> None:
        run.until = self._loop.time() + run.grace
        if run.worker is not None:
            run.worker.stop(run.process.run)

    def forget(self, process: Process) -> None:
        """See ``Engine``."""
        run = self._runs.pop(process.run, None)
        unstage(self._data.staging(process.request.worker, process.run))
        if run is not None and run.worker is not None:
            run.worker.forget(process.run)
        if run is None or run.start is None:
            self._local_workers.forget(process.run)

    async def abandon(self) -> None:
        """See ``Engine``: the worker processes go on, and keep what becomes of the runs."""
        await self._local_workers.abandon()

    async def close(self) -> None:
        """See ``Engine``."""
        for name in self._active:
            self.kill(self._runs[name].process)
        latest = max((self._runs[name].until for name in self._active), default=0.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(latest + _WORKER_SECONDS):
                await self._all_over()
        for run in [self._runs[name] for name in self._active]:
            log.error(
                "the process that started job %s does not answer; the job is killed",
                run.process.request.job_id,
            )
            run.is_given_up = True
            if run.worker is not None:
                run.worker.kill()
        await self._all_over()
        await self._local_workers.close()

    async def _all_over(self) -> None:
        while self._active:
            self._changed.clear()
            await self._changed.wait()


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_SETTINGS)}
