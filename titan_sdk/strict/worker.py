"""A strict worker with four slots and one shared folder (sections 5.1 to 5.5)."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from titan_sdk.cluster.engines.archives import ArchiveRefused, unpack
from titan_sdk.cluster.engines.staging import split_args
from titan_sdk.cluster.folders import safe_name
from titan_sdk.cluster.settings import WorkerSpec
from titan_sdk.errors import PeerProtocolError
from titan_sdk.model.rules import DAG_PREFIX
from titan_sdk.strict.logs import Batcher
from titan_sdk.strict.processes import ScriptProcess, kill_all, kill_tree
from titan_sdk.strict.settings import StrictSettings
from titan_sdk.wire.fields import decode_base64
from titan_sdk.wire.frames import MAX_PAYLOAD

__all__ = ["ACCEPTED", "StrictWorker", "Uplink", "WorkerRefused"]

ACCEPTED = "JOB_ACCEPTED"
_CLOSE_SECONDS = 5.0


class WorkerRefused(Exception):
    """The worker refused a command of the master, or is gone."""


class Uplink(Protocol):
    """The master, as its workers reach it."""

    def job_ended(self, job_id: str, status: str, result: str) -> None: ...

    def log_batch(self, job_id: str, block: str) -> None: ...

    def service_gone(self, service_id: str) -> None: ...


class StrictWorker:
    """A worker. Every command may raise ``WorkerRefused``, because the worker is gone. ``uplink`` is the present master."""

    def __init__(
        self,
        spec: WorkerSpec,
        workspace: Path,
        settings: StrictSettings,
        environment: dict[str, str],
        uplink: Callable[[], Uplink | None],
    ) -> None:
        self.spec = spec
        self.alive = True
        self.active = 0
        """The slots in use. A slot is in use until the output pipe of its job closes."""
        self._workspace = workspace
        self._settings = settings
        self._environment = environment
        self._uplink = uplink
        self._scripts: dict[str, ScriptProcess] = {}
        self._services: dict[str, ScriptProcess] = {}
        self._stopped: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        (workspace / "shared").mkdir(parents=True, exist_ok=True)

    # ------------------------------------------------------------------ commands of the master

    def stage(self, filename: str, content_b64: str) -> None:
        """Write a file into the workspace. It replaces any file of its name (hazard 7).

        Raises:
            WorkerRefused: it is not base64, or the folder in its name does not exist.
        """
        self._check_alive()
        target = (self._workspace / filename).resolve()
        try:
            if not target.is_relative_to(self._workspace.resolve()):
                # The one thing not imitated: a real worker writes wherever the name leads.
                raise OSError(f"{filename} is outside the workspace")
            target.write_bytes(decode_base64(content_b64))
        except (OSError, ValueError, PeerProtocolError) as exc:
            raise WorkerRefused(f"Worker Error: ERROR: JOB_FAILED {exc}") from exc

    def run(self, job_id: str, filename: str, args: str) -> str:
        """Start a staged script, or the absolute path of an archive's entry.

        Raises:
            WorkerRefused: every slot is in use. That also costs the job an attempt.
        """
        self._check_alive()
        if self.active >= self._settings.slots:
            raise WorkerRefused("Worker Error: ERROR: ERROR_WORKER_SATURATED")
        self.active += 1
        self._spawn(self._run(job_id, filename, args))
        return ACCEPTED

    async def unpack(self, job_id: str, entry: str, archive: Path) -> Path:
        """Unpack a project into the job's own folder, which is emptied first. Returns the entry's path.

        Raises:
            WorkerRefused: the archive cannot be read or does not fit into a frame.
        """
        self._check_alive()
        folder = self._workspace / safe_name(job_id)
        try:
            await asyncio.to_thread(_unpack, archive, folder, len(f"{job_id}|{entry}|".encode()))
        except (ArchiveRefused, OSError) as exc:
            raise WorkerRefused(f"Worker Error: ERROR: ARCHIVE_FAILED: {exc}") from exc
        path = (folder / entry).resolve()
        if not entry or not path.is_relative_to(folder.resolve()):
            raise WorkerRefused(f"Worker Error: ERROR: ARCHIVE_FAILED: no entry {entry!r}")
        return path

    async def start_service(self, service_id: str, filename: str) -> str:
        """Start a staged file, or an unpacked entry, as a service without arguments. Returns the worker's answer.

        Raises:
            WorkerRefused: there is no such file.
        """
        self._check_alive()
        script = self._workspace / filename
        if not script.is_file():
            raise WorkerRefused(f"Worker Error: ERROR: File not found at {script}")
        if service_id in self._services:
            return f"SERVICE_ALREADY_RUNNING: {service_id}"
        try:
            process = await self._start_service(service_id, script)
        except OSError as exc:
            return f"LAUNCH_ERROR: {exc}"
        self._spawn(self._keep(service_id, script, process))
        return f"DEPLOYED_SUCCESS | ID: {service_id} | PID: {process.pid}"

    def cancel(self, job_id: str) -> None:
        """Kill the script's process only, and not its children (section 7)."""
        if self.alive and job_id in self._scripts:
            self._scripts[job_id].send(signal.SIGKILL)

    def stop_service(self, service_id: str) -> str:
        """Kill a service with its descendants. A service that is just being restarted is not found, and comes back."""
        self._check_alive()
        process = self._services.pop(service_id, None)
        if process is None:
            return f"UNKNOWN_SERVICE: {service_id}"
        self._stopped.add(service_id)
        kill_tree(process.pid)
        return f"STOPPED: {service_id}"

    def die(self) -> None:
        """Lose the worker with all its processes. It reports nothing more."""
        self.alive = False
        sessions = {process.pid for process in (*self._scripts.values(), *self._services.values())}
        kill_all(sessions, self._workspace.resolve())

    async def close(self) -> None:
        """End every process."""
        self.die()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()

    # ------------------------------------------------------------------ scripts

    async def _run(self, job_id: str, filename: str, args: str) -> None:
        """Run a script, and report its end to the master (sections 5.1 and 5.2)."""
        batcher = self._batcher(job_id)
        try:
            result = await self._execute(job_id, filename, args, batcher)
        except OSError as exc:
            result = f"ERROR: Execution failed - {exc}"
        batcher.close()
        status = "COMPLETED" if result.startswith("COMPLETED|0|") else "FAILED"
        if len(f"{job_id}|{status}|{result}".encode("utf-8", "replace")) > MAX_PAYLOAD:
            # The master refuses each attempt. The slot is held meanwhile, and the job stays RUNNING for ever.
            await asyncio.sleep(sum(self._settings.callback_pauses))
            self.active -= 1
            return
        self.active -= 1
        if self.alive and (master := self._uplink()):
            master.job_ended(job_id, status, result)

    async def _execute(self, job_id: str, filename: str, args: str, batcher: Batcher) -> str:
        """``COMPLETED|<exit code>|<output>``, or a text that begins with ``ERROR``."""
        script = self._workspace / filename
        if not filename.endswith((".py", ".sh")) or not script.exists():
            # For other kinds of files, a real worker uses the job's id as the name.
            name = filename if filename.endswith((".py", ".sh")) else job_id
            return f"ERROR: ScriptProcess file not found: {name}"
        cwd = self._folder(job_id, filename)
        command = (*(("python", "-u") if script.suffix == ".py" else ("/bin/bash",)), str(script))
        limit = self._settings.plain_job_limit
        if job_id.startswith(DAG_PREFIX):
            limit = self._settings.dag_job_limit
        # If the log cannot be written, a real worker's reader dies, and then the script, because its output is closed.
        log = cwd / f"{job_id}.log" if "/" not in job_id else None
        process = await ScriptProcess.start(
            (*command, *split_args(args)), cwd, self._environment, read=log is not None
        )
        self._scripts[job_id] = process
        if not self.alive:
            process.send(signal.SIGKILL)
        loop = asyncio.get_running_loop()
        until = loop.time() + limit
        output = []
        async for line in process.lines():
            output.append(line)
            batcher.add(line)
        if log is not None:
            with suppress(OSError), log.open("a", encoding="utf-8", errors="replace") as file:
                file.writelines(f"{line}\n" for line in output)
        # Only now: a script over its time limit runs to its end, and then counts as failed.
        timer = loop.call_at(until, process.send, signal.SIGTERM)
        code = await process.ended()
        timer.cancel()
        if self._scripts.get(job_id) is process:
            del self._scripts[job_id]
        if loop.time() > until:
            return f"ERROR: ScriptProcess timed out ({limit:g}s limit)"
        return f"COMPLETED|{code}|" + "\n".join(output).strip()

    def _folder(self, job_id: str, filename: str) -> Path:
        if Path(filename).is_absolute():
            return Path(filename).parent
        folder = self._workspace / ("shared" if job_id.startswith(DAG_PREFIX) else safe_name(job_id))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # ------------------------------------------------------------------ services

    async def _start_service(self, service_id: str, script: Path) -> ScriptProcess:
        command = ("python", str(script)) if script.suffix == ".py" else (str(script),)
        process = self._services[service_id] = await ScriptProcess.start(
            command, script.parent, self._environment
        )
        return process

    async def _keep(self, service_id: str, script: Path, process: ScriptProcess) -> None:
        """Restart the service again and again, until STOP (section 5.5)."""
        while True:
            batcher = self._batcher(service_id)
            async for line in process.lines():
                batcher.add(line)
            batcher.close()
            await process.ended()
            if self._services.get(service_id) is process:
                del self._services[service_id]
            if service_id in self._stopped:
                self._stopped.discard(service_id)
                if master := self._uplink():
                    master.service_gone(service_id)
                return
            if self.alive:
                await asyncio.sleep(self._settings.service_restart)
            if not self.alive or service_id in self._services:
                return
            with suppress(OSError):
                process = await self._start_service(service_id, script)

    # ------------------------------------------------------------------ parts

    def _check_alive(self) -> None:
        if not self.alive:
            raise WorkerRefused("Worker Error: null")  # connection refused

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _batcher(self, job_id: str) -> Batcher:
        return Batcher(job_id, self._log_batch, self._settings)

    def _log_batch(self, job_id: str, block: str) -> None:
        fits = len(block.encode("utf-8", "replace")) < MAX_PAYLOAD - len(job_id)
        if self.alive and fits and (master := self._uplink()):
            master.log_batch(job_id, block)


def _unpack(archive: Path, folder: Path, head: int) -> None:
    if head + (archive.stat().st_size + 2) // 3 * 4 > MAX_PAYLOAD:
        raise WorkerRefused("Worker Error: null")  # the frame that would bring it is over the limit
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    unpack(archive, folder)
