"""A master in a process of its own, as ``titan up`` runs it, that can be killed at any instant."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.sdk.cluster.peer import Peer

_PROGRAM = """
import sys
from titan_sdk.cluster import ClusterSettings, run_master
from titan_sdk.cluster.engines.ray.settings import RaySettings
if len(sys.argv) > 2:
    settings = ClusterSettings(sys.argv[1], port=0, engine="ray", ray=RaySettings(sys.argv[2]))
else:
    settings = ClusterSettings(sys.argv[1], port=0, workers={"GENERAL": 2, "GPU": 1})
sys.exit(run_master(settings, lambda host, port: print(host, port, flush=True)))
"""


class MasterProcess:
    """
    Args:
        ray: address of the Ray cluster that runs the jobs, if one does.
    """

    def __init__(self, data_dir: Path, ray: str | None = None) -> None:
        self._arguments = [str(data_dir), *([ray] if ray is not None else [])]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Peer:
        """Serve the folder; a client of it."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *self._arguments], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        host, port = self._process.stdout.readline().split()
        return Peer((host, int(port)))

    def kill(self) -> None:
        """``kill -9`` of the master alone."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def close(self) -> None:
        if self._process is not None:
            self.stop()

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return code
