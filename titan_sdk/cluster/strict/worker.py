"""A strict worker: four slots, one shared folder, and no opinion of its own."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Protocol

from titan_sdk.cluster.engines.archives import ArchiveRefused, unpack
from titan_sdk.cluster.folders import safe_name
from titan_sdk.cluster.settings import WorkerSpec
from titan_sdk.cluster.strict import processes
from titan_sdk.cluster.strict.logs import Batcher
from titan_sdk.cluster.strict.script import ScriptRun
from titan_sdk.cluster.strict.services import ServiceDesk
from titan_sdk.cluster.strict.settings import StrictSettings
from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.fields import decode_base64
from titan_sdk.wire.frames import MAX_PAYLOAD

__all__ = ["ACCEPTED", "StrictWorker", "Uplink", "WorkerRefused"]

ACCEPTED = "JOB_ACCEPTED"
_CLOSE_SECONDS = 5.0


class WorkerRefused(Exception):
    """What the worker, or the lack of one, answered to a command of the master's."""


class Uplink(Protocol):
    """The master, as its workers reach it; it may be another one after a restart."""

    def job_ended(self, job_id: str, status: str, result: str) -> None: ...

    def log_batch(self, job_id: str, block: str) -> None: ...

    def service_gone(self, service_id: str) -> None: ...


class StrictWorker:
    """Commands are called in the loop's thread; scripts run in threads."""

    def __init__(
        self,
        spec: WorkerSpec,
        workspace: Path,
        settings: StrictSettings,
        environment: dict[str, str],
        uplink: Uplink,
    ) -> None:
        self.spec = spec
        self.alive = True
        self.active = 0
        """Slots in use, until nobody holds the output of the job open any more."""
        self._workspace = workspace
        self._settings = settings
        self._environment = environment
        self._uplink = uplink
        self._loop = asyncio.get_running_loop()
        self._runs: dict[str, ScriptRun] = {}
        self._threads: set[threading.Thread] = set()
        self._services = ServiceDesk(environment, settings.service_restart, self._batcher, self._service_gone)
        (workspace / "shared").mkdir(parents=True, exist_ok=True)

    # ------------------------------------------------------------------ commands of the master

    def stage(self, filename: str, content_b64: str) -> None:
        """Write a file into the workspace, over whatever has its name (hazard 7).

        Raises:
            WorkerRefused: it is not base64, or the folder it names is not there.
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
        """Start a staged script.

        Raises:
            WorkerRefused: every slot is in use; that, too, costs the job an attempt.
        """
        self._check_alive()
        if self.active >= self._settings.slots:
            raise WorkerRefused("Worker Error: ERROR: ERROR_WORKER_SATURATED")
        self.active += 1
        run = ScriptRun(
            job_id,
            filename,
            args,
            self._workspace,
            self._environment,
            self._settings,
            self._batcher(job_id),
        )
        thread = threading.Thread(target=self._execute, args=(run,), daemon=True)
        self._threads.add(thread)
        thread.start()
        return ACCEPTED

    async def unpack(self, job_id: str, entry: str, archive: Path) -> Path:
        """Unpack a project into the job's own folder, wiped first; the path of the entry.

        Raises:
            WorkerRefused: the archive cannot be read or does not fit into a frame.
        """
        self._check_alive()
        folder = self._workspace / safe_name(job_id)
        try:
            await asyncio.to_thread(_unpack, archive, folder, len(f"{job_id}|{entry}|".encode()))
        except _TooLarge as exc:
            raise WorkerRefused("Worker Error: null") from exc
        except (ArchiveRefused, OSError) as exc:
            raise WorkerRefused(f"Worker Error: ERROR: ARCHIVE_FAILED: {exc}") from exc
        path = (folder / entry).resolve()
        if not entry or not path.is_relative_to(folder.resolve()):
            raise WorkerRefused(f"Worker Error: ERROR: ARCHIVE_FAILED: no entry {entry!r}")
        return path

    def start_service(self, service_id: str, filename: str) -> str:
        """Start a staged file, or an unpacked entry, as a service without arguments; the worker's words.

        Raises:
            WorkerRefused: there is no such file.
        """
        self._check_alive()
        script = self._workspace / filename
        if not script.is_file():
            raise WorkerRefused(f"Worker Error: ERROR: File not found at {script}")
        command = ("python", str(script)) if script.suffix == ".py" else (str(script),)
        return self._services.start(service_id, command, script.parent)

    def cancel(self, job_id: str) -> None:
        """SIGKILL to the script's process and to nothing that it started (section 7)."""
        run = self._runs.get(job_id)
        if run is not None and run.process is not None and self.alive:
            run.process.kill()

    def stop_service(self, service_id: str) -> str:
        """Raises WorkerRefused if the worker is gone."""
        self._check_alive()
        return self._services.stop(service_id)

    def die(self) -> None:
        """The worker is lost with everything on it, and reports nothing any more."""
        self.alive = False
        self._services.begin_close()
        processes.kill_all(self._sessions(), self._workspace.resolve())

    def close(self) -> None:
        """End every process; blocks until the threads are through."""
        self.die()
        for thread in list(self._threads):
            thread.join(_CLOSE_SECONDS)
        self._services.join(_CLOSE_SECONDS)

    # ------------------------------------------------------------------ parts

    def _check_alive(self) -> None:
        if not self.alive:
            raise WorkerRefused("Worker Error: null")  # connection refused

    def _sessions(self) -> set[int]:
        scripts = {run.process.pid for run in list(self._runs.values()) if run.process is not None}
        return scripts | self._services.sessions()

    def _batcher(self, job_id: str) -> Batcher:
        return Batcher(job_id, self._loop, self._log_batch, self._settings)

    def _execute(self, run: ScriptRun) -> None:
        result = run.execute(self._started)
        if self._runs.get(run.job_id) is run:
            del self._runs[run.job_id]
        code = result.split("|", 2)[1] if result.startswith("COMPLETED|") else "1"
        try:
            self._loop.call_soon_threadsafe(self._report, run.job_id, code == "0", result)
        except RuntimeError:
            pass  # the cluster is gone
        self._threads.discard(threading.current_thread())

    def _started(self, run: ScriptRun) -> None:
        self._runs[run.job_id] = run

    def _report(self, job_id: str, ok: bool, result: str) -> None:
        message = f"{job_id}|{'COMPLETED' if ok else 'FAILED'}|{result}"
        if len(message.encode("utf-8", "replace")) > MAX_PAYLOAD:
            # The master refuses each try; the slot is held meanwhile, and the job stays RUNNING for ever.
            self._loop.call_later(sum(self._settings.callback_pauses), self._free_slot)
            return
        self._free_slot()
        if self.alive:
            self._uplink.job_ended(job_id, "COMPLETED" if ok else "FAILED", result)

    def _free_slot(self) -> None:
        self.active -= 1

    def _log_batch(self, job_id: str, block: str) -> None:
        if self.alive and len(block.encode("utf-8", "replace")) < MAX_PAYLOAD - len(job_id):
            self._uplink.log_batch(job_id, block)

    def _service_gone(self, service_id: str) -> None:
        try:
            self._loop.call_soon_threadsafe(self._uplink.service_gone, service_id)
        except RuntimeError:
            pass  # the cluster is gone


class _TooLarge(Exception):
    """The frame that would bring the archive to the worker is over the limit."""


def _unpack(archive: Path, folder: Path, head: int) -> None:
    if head + (archive.stat().st_size + 2) // 3 * 4 > MAX_PAYLOAD:
        raise _TooLarge
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    unpack(archive, folder)
