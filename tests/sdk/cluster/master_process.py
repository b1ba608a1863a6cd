"""A master in a process of its own, as ``titan up`` runs it, that can be killed at any instant."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from tests.sdk.cluster.peer import Peer

_PROGRAM = """
import json, sys
from titan_sdk.cluster import ClusterSettings, run_master
from titan_sdk.cluster.engines.ray.settings import RaySettings
more = json.loads(sys.argv[2])
if more["ray"] is not None:
    more |= {"engine": "ray", "ray": RaySettings(**more["ray"])}
settings = ClusterSettings(sys.argv[1], **{"port": 0, "workers": {"GENERAL": 2, "GPU": 1}, **more})
sys.exit(run_master(settings, lambda host, port: print(host, port, flush=True)))
"""


class MasterProcess:
    """
    Args:
        ray: the Ray cluster that runs the jobs, if one does: its address, or all of ``RaySettings``.
        descriptors: how many files it may have open.
        settings: more for ``ClusterSettings``, as far as JSON can tell it.
    """

    def __init__(
        self,
        data_dir: Path,
        ray: str | dict[str, Any] | None = None,
        descriptors: int | None = None,
        **settings: Any,
    ) -> None:
        self._data_dir = data_dir
        limit = [] if descriptors is None else ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh"]
        self._command = [*limit, sys.executable, "-c", _PROGRAM]
        # On a busy machine Ray's own processes take long, and its client gives up and is tried again.
        patient = {"connect_seconds": 600.0}
        self._settings = {"ray": {"address": ray, **patient} if isinstance(ray, str) else ray, **settings}
        self._process: subprocess.Popen[str] | None = None

    def start(self, errors: IO[bytes] | None = None) -> Peer:
        """Serve the folder; a client of it.

        Args:
            errors: where its stderr goes, if not to this process's.
        """
        self._process = subprocess.Popen(
            [*self._command, str(self._data_dir), json.dumps(self._settings)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert self._process.stdout is not None
        host, port = self._process.stdout.readline().split()
        return Peer((host, int(port)))

    @property
    def is_up(self) -> bool:
        """Whether it was started and nobody has seen its end."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """It does nothing, and is not told; what it has started goes on."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """``kill -9`` of the master alone."""
        self._end(signal.SIGKILL)

    def ended(self) -> int:
        """Wait until it has ended by itself; the exit code."""
        return self._reap()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def __enter__(self) -> MasterProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.is_up:
            self.go_on()  # should a test have failed while it was paused
            self.stop()

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._reap()

    def _reap(self) -> int:
        assert self._process is not None
        try:
            return self._process.wait(120)
        finally:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None
