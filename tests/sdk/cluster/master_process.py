"""A master in a process of its own, as ``titan up`` runs it, that can be killed at any instant."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.sdk.cluster.peer import Peer

_PROGRAM = """
import json, sys
from titan_sdk.cluster import ClusterSettings, run_master
from titan_sdk.cluster.engines.ray.settings import RaySettings
more = json.loads(sys.argv[2])
if more["ray"] is not None:
    more |= {"engine": "ray", "ray": RaySettings(more["ray"])}
settings = ClusterSettings(sys.argv[1], **{"port": 0, "workers": {"GENERAL": 2, "GPU": 1}, **more})
sys.exit(run_master(settings, lambda host, port: print(host, port, flush=True)))
"""


class MasterProcess:
    """
    Args:
        ray: address of the Ray cluster that runs the jobs, if one does.
        settings: more for ``ClusterSettings``, as far as JSON can tell it.
    """

    def __init__(self, data_dir: Path, ray: str | None = None, **settings: Any) -> None:
        self._data_dir = data_dir
        self._settings = {"ray": ray, **settings}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Peer:
        """Serve the folder; a client of it."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(self._data_dir), json.dumps(self._settings)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        host, port = self._process.stdout.readline().split()
        return Peer((host, int(port)))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

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
