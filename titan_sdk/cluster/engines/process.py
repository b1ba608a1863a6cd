"""The embedded engine: a job is a process of this machine, started by a worker process that outlives the master.

The master stores which process a run belongs to before it sends the run to it. If the master dies before that, nothing was
started. If it dies later, the next master asks the same process. The engine neither polls nor uses waiting threads.
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
"""Seconds after a run's grace for its worker process to report the end."""
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
"""The prefix of the variables that a launcher reads when it is loaded."""


@dataclass(slots=True)
class _ProcessRun:
    process: Process
    grace: float
    start: StartRequest | None = None
    """``None`` for a run of an earlier master."""
    worker: WorkerClient | None = None
    until: float = 0.0
    """The deadline of a killed run, by the loop's time."""
    is_given_up: bool = False
    """Whether its worker process was killed, because it was suspended."""


def job_environment(environ: Mapping[str, str], worker: str, host: str, port: int) -> dict[str, str]:
    """The environment of a job: the master's, without the master's own settings, plus the worker's name and address.

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
    """The engine. Belongs to the thread of the loop that runs when it is made.

    Args:
        environment: the environment of a worker's jobs, by the worker's name.
        uploads: the folder of archives; by default the data directory's.
        shared: whether the store is not in the data directory.
        held: whether jobs end with this process, even if it is killed, because no later master will ask for them.

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
        """The environment of the worker process."""
        self._forks: dict[str, bool] = {}
        self._runs: dict[str, _ProcessRun] = {}
        """The runs from their staging or re-attaching until they are forgotten."""
        self._active: set[str] = set()
        """The runs that may have a process."""
        self._changed = asyncio.Event()

    # ------------------------------------------------------------------ starting

    chooses_places = False
    keeps_runs = False
    problem: str | None = None

    async def open(self) -> None:
        """See ``Engine``."""
        await asyncio.sleep(0)  # the re-attaching of every earlier run has begun after this
        followed = {name: self._runs[name].process.handle for name in self._active}
        await self._local_workers.tidy(followed.keys(), list(followed.values()))

    def port_problem(self, port: int) -> str | None:
        """See ``Engine``."""
        return port_problem_here(port)

    async def answers(self, process: Process, port: int) -> None:
        """See ``Engine``."""
        del process  # any listener on the port counts as the service
        await answers_here(port)

    async def stage(self, request: RunRequest) -> Process:
        """Put the run's files in place, and make sure of a worker process. Archives are unpacked in a thread."""
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
            # The last two mean a worker process that ended or was suspended at its start, as for lack of memory.
            if exc.errno in PASSING or isinstance(exc, ConnectionError | TimeoutError):
                raise NoRoom(f"it cannot be started at the moment: {exc}") from exc
            raise StagingFailed(f"it could not be started: {exc}") from exc

    def _own_environment(self) -> Mapping[str, str]:
        return self._first_environment

    def _may_fork(self, worker: str) -> bool:
        """Whether the loaded launcher is equivalent to one that a shell on this worker would start: this very Python, with
        the same settings.
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
        """Follow the run in its worker process, or read its stored end."""
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
            # Processes of the run may be orphans, so the slot is not free before they were searched for.
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
        """Disconnect. The worker processes go on, and keep the ends of the runs."""
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
