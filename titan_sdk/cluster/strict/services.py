"""Services of a strict worker: started again for ever, until STOP (section 5.5)."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from titan_sdk.cluster.strict import processes
from titan_sdk.cluster.strict.logs import Batcher

__all__ = ["ServiceDesk"]

_SOON = 0.5


class ServiceDesk:
    """The services of one worker, by id. Two threads watch each: one reads its output, one awaits its end."""

    def __init__(
        self,
        environment: dict[str, str],
        restart_seconds: float,
        batcher_of: Callable[[str], Batcher],
        stopped: Callable[[str], None],
    ) -> None:
        self._environment = environment
        self._restart_seconds = restart_seconds
        self._batcher_of = batcher_of
        self._stopped = stopped
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._intended: set[str] = set()
        self._closing = threading.Event()
        self._threads: set[threading.Thread] = set()

    def start(self, service_id: str, command: Sequence[str], cwd: Path) -> str:
        """The worker's words."""
        if service_id in self._running:
            return f"SERVICE_ALREADY_RUNNING: {service_id}"
        try:
            process = processes.start(command, cwd, self._environment)
        except OSError as exc:
            return f"LAUNCH_ERROR: {exc}"
        self._running[service_id] = process
        thread = threading.Thread(target=self._watch, args=(service_id, process, command, cwd), daemon=True)
        self._threads.add(thread)
        thread.start()
        return f"DEPLOYED_SUCCESS | ID: {service_id} | PID: {process.pid}"

    def stop(self, service_id: str) -> str:
        """Kill it with its descendants. One that is just being started again is not found, and comes back."""
        process = self._running.pop(service_id, None)
        if process is None:
            return f"UNKNOWN_SERVICE: {service_id}"
        self._intended.add(service_id)
        for pid in processes.descendants(process.pid):
            processes.kill(pid)
        process.kill()
        try:
            process.wait(_SOON)
        except subprocess.TimeoutExpired:
            pass  # it is on its way; a real worker does not wait at all
        return f"STOPPED: {service_id}"

    def sessions(self) -> set[int]:
        return {process.pid for process in list(self._running.values())}

    def begin_close(self) -> None:
        """From now on nothing is started again."""
        self._closing.set()

    def join(self, seconds: float) -> None:
        """Wait for the threads, once the processes are killed."""
        for thread in list(self._threads):
            thread.join(seconds)

    def _watch(
        self, service_id: str, process: subprocess.Popen[bytes], command: Sequence[str], cwd: Path
    ) -> None:
        reader = threading.Thread(target=self._read, args=(service_id, process), daemon=True)
        reader.start()
        process.wait()
        if self._running.get(service_id) is process:
            del self._running[service_id]
        if service_id in self._intended:
            self._intended.discard(service_id)
            self._stopped(service_id)
        elif not self._closing.wait(self._restart_seconds):
            self.start(service_id, command, cwd)
        reader.join(_SOON)
        self._threads.discard(threading.current_thread())

    def _read(self, service_id: str, process: subprocess.Popen[bytes]) -> None:
        batcher = self._batcher_of(service_id)
        for line in processes.output_lines(process):
            batcher.add(line)
        batcher.close()
        processes.close_pipes(process)
