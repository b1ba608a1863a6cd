"""The embedded engine: a job is a process of this machine, under a shim that outlives the master.

    master -- gate (pipe) --> /bin/sh shim: leader of its own session and process group
                               `-- the job: output appended to the job's log file, stdin /dev/null

The shim waits at the gate until the master has stored its process number. If the master dies before that, the
shim reads end-of-file and starts nothing; if it dies later, the shim leaves the exit status in a file that the
next master reads. Whether a process lives is told by its pidfd: nothing is polled, no thread waits.
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

from titan_sdk.cluster.engines import processes
from titan_sdk.cluster.engines.base import Reports, RunRequest, RunResult
from titan_sdk.cluster.engines.staging import ARCHIVES, Command, StagingFailed, StagingFolders, stage
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.scheduler import Outcome

__all__ = ["NO_RETRY_CODES", "ProcessEngine", "job_environment"]

log = logging.getLogger(__name__)

NO_RETRY_CODES = {
    97: "its launcher could not reach or confirm the store of the master (exit code 97)",
    98: "its launcher refused to start it (exit code 98; the log says why)",
}
"""Exit codes by which the runtime says that another run cannot help."""

# $1 the file of exits, $2 the run, $3 its working directory, then the command. One file for all runs, to which
# each appends one line in one write: creating a file per job costs more than the rest of the shim together.
_SHIM = """\
exits=$1 run=$2; cd "$3" || exit 126; shift 3
IFS= read -r go || { echo "$run unstarted" >>"$exits"; exit 0; }
"$@" </dev/null
code=$?
echo "$run $code" >>"$exits"
exit $code
"""
_RESET_SIGNALS = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@dataclass(slots=True)
class _Run:
    request: RunRequest
    pid: int | None = None
    pidfd: int | None = None
    gate: int | None = None
    killed: bool = False
    child: bool = True
    """Whether this process may reap it; a re-attached run is somebody else's child."""
    sweep: asyncio.Task[None] | None = None
    staging: asyncio.Task[None] | None = None


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
    """

    def __init__(
        self, data: DataDir, reports: Reports, environment: Callable[[str], Mapping[str, str]]
    ) -> None:
        self._data = data
        self._reports = reports
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self._folders = StagingFolders()
        self._runs: dict[str, _Run] = {}
        self._closing = False
        self._idle = asyncio.Event()

    # ------------------------------------------------------------------ starting

    def start(self, request: RunRequest) -> None:
        """Stage and launch; the process waits at its gate. Archives are unpacked in a thread."""
        run = self._runs[request.run] = _Run(request)
        if request.line.header in ARCHIVES:
            run.staging = self._loop.create_task(self._stage_in_thread(run))
            return
        try:
            command = stage(request, self._data, self._folders)
        except StagingFailed as exc:
            # Reported in the next turn: the caller is in the middle of performing the scheduler's effects.
            self._loop.call_soon(self._refuse, run, str(exc))
            return
        self._launch(run, command)

    async def _stage_in_thread(self, run: _Run) -> None:
        try:
            command = await asyncio.to_thread(stage, run.request, self._data, self._folders)
        except StagingFailed as exc:
            self._refuse(run, str(exc))
            return
        if run.killed:
            self._finish(run, RunResult(Outcome.FAILURE, None, "it was killed before it began"))
        else:
            self._launch(run, command)

    def _refuse(self, run: _Run, reason: str) -> None:
        self._finish(run, RunResult(Outcome.FATAL, None, reason))

    def _launch(self, run: _Run, command: Command) -> None:
        request = run.request
        environment = dict(self._environment(request.worker))
        environment["TITAN_RUN"] = request.run
        shim = ["/bin/sh", "-c", _SHIM, "titan-job", str(self._data.exits), request.run, str(command.cwd)]
        read_end, write_end = os.pipe()
        output = (os.POSIX_SPAWN_OPEN, 1, str(self._data.log_file(request.job_id)), _LOG_FLAGS, 0o600)
        actions = [(os.POSIX_SPAWN_DUP2, read_end, 0), output, (os.POSIX_SPAWN_DUP2, 1, 2)]
        try:
            run.pid = os.posix_spawn(
                "/bin/sh",
                [*shim, *command.argv],
                environment,
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=_RESET_SIGNALS,
            )
        except (OSError, ValueError) as exc:
            # ValueError: a NUL in an argument. Either way the same attempt would fail the same way.
            os.close(write_end)
            self._loop.call_soon(self._refuse, run, f"it could not be started: {exc}")
            return
        finally:
            os.close(read_end)
        run.gate = write_end
        self._watch(run, os.pidfd_open(run.pid))
        self._reports.launched(request, processes.process_handle(run.pid))

    def release(self, run: str) -> None:
        """Open the gate."""
        found = self._runs.get(run)
        if found is None or found.gate is None:
            return
        if not found.killed:
            with contextlib.suppress(OSError):  # the shim is gone already; its exit is reported as any other
                os.write(found.gate, b"\n")
        os.close(found.gate)
        found.gate = None

    # ------------------------------------------------------------------ ending

    def kill(self, run: str) -> None:
        """SIGKILL to the process group at once, then to whatever has left it."""
        found = self._runs.get(run)
        if found is None:
            return
        found.killed = True
        if found.pid is not None and found.pidfd is not None:
            processes.kill_leader_and_group(found.pid, found.pidfd)
            if found.sweep is None:
                found.sweep = self._loop.create_task(self._sweep(_mark(run)))

    async def _sweep(self, mark: bytes) -> None:
        await asyncio.to_thread(processes.end_marked, mark, _GUARD_SECONDS)

    def _watch(self, run: _Run, pidfd: int) -> None:
        run.pidfd = pidfd
        self._loop.add_reader(pidfd, self._on_exit, run)

    def _on_exit(self, run: _Run) -> None:
        assert run.pid is not None
        assert run.pidfd is not None
        self._loop.remove_reader(run.pidfd)
        os.close(run.pidfd)
        run.pidfd = None
        code = self._reap(run) if run.child else self._stored_status(run.request.run)
        result = self._result(run, code)
        if run.sweep is not None and not run.sweep.done():
            # The slot is not free, nor the cancel done, while something of the run may be alive.
            run.sweep.add_done_callback(lambda _: self._finish(run, result))
        else:
            self._finish(run, result)

    def _reap(self, run: _Run) -> int | str | None:
        assert run.pid is not None
        # What the job left running in its group would go on in a slot that is given away. The leader is not
        # reaped yet, so the number cannot mean another group.
        processes.kill_group(run.pid)
        try:
            _, status = os.waitpid(run.pid, 0)
        except ChildProcessError:
            # The program around a LocalCluster reaps everybody's children: the shim's file knows.
            return self._stored_status(run.request.run)
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code

    def _stored_status(self, run: str) -> int | str | None:
        word = read_exits(self._data.exits).get(run)
        return int(word) if word is not None and word.isdigit() else word

    def _result(self, run: _Run, code: int | str | None) -> RunResult:
        if code == 0 and run.gate is None and not run.killed:
            return RunResult(Outcome.SUCCESS, 0)
        if run.killed:
            return RunResult(Outcome.FAILURE, code if isinstance(code, int) else None, "it was killed")
        if code is None:
            return RunResult(
                Outcome.FAILURE,
                None,
                "its process is gone and left no exit status; it was killed from outside",
            )
        if isinstance(code, str):
            return RunResult(Outcome.INTERRUPTED, None, "the master ended before the job began")
        if code in NO_RETRY_CODES:
            return RunResult(Outcome.FATAL, code, NO_RETRY_CODES[code])
        return RunResult(Outcome.FAILURE, code, _describe(code))

    def _finish(self, run: _Run, result: RunResult) -> None:
        self._runs.pop(run.request.run, None)
        if run.gate is not None:
            os.close(run.gate)
            run.gate = None
        if self._closing:
            if not self._runs:
                self._idle.set()
            return
        self._reports.exited(run.request, result)

    # ------------------------------------------------------------------ restarts

    def reattach(self, request: RunRequest, handle: str) -> None:
        """Watch the process if it lives; otherwise report what it left."""
        run = self._runs[request.run] = _Run(request, child=False)
        pidfd = processes.open_live(handle, _mark(request.run))
        if pidfd is not None:
            run.pid = processes.parse_handle(handle)
            self._watch(run, pidfd)
            return
        result = self._result(run, self._stored_status(request.run))
        self._loop.call_soon(self._finish, run, result)

    def discard(self, run: str, handle: str) -> None:
        pidfd, pid = processes.open_live(handle, _mark(run)), processes.parse_handle(handle)
        if pidfd is not None and pid is not None:
            processes.kill_leader_and_group(pid, pidfd)
            os.close(pidfd)
        processes.end_marked(_mark(run))

    def clean(self, run: str, worker: str) -> None:
        self._folders.give_back(self._data.staging(worker, run))
        if not self._runs:
            self._shorten_exits()

    def _shorten_exits(self) -> None:
        """Nobody runs, so nobody appends: empty the file of exits if it has grown."""
        with contextlib.suppress(OSError):
            if self._data.exits.stat().st_size > _MAX_EXITS_BYTES:
                os.truncate(self._data.exits, 0)

    async def close(self) -> None:
        self._closing = True
        if not self._runs:
            return
        for run in list(self._runs):
            self.kill(run)
        await self._idle.wait()


def _mark(run: str) -> bytes:
    """What every process of a run has in its environment."""
    return f"TITAN_RUN={run}".encode()


def read_exits(path: Path) -> dict[str, str]:
    """The last word about every run in a file of exits; a line that is not complete is no word."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        return {}
    return dict(line.split(" ", 1) for line in lines if " " in line)


_GUARD_SECONDS = 0.5
_MAX_EXITS_BYTES = 1024 * 1024
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


def _describe(code: int) -> str:
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(code - 128).name}"
    return f"it ended with exit code {code}"
