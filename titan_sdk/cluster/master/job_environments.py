"""The environment that jobs inherit from their worker, including the NVIDIA devices of a GPU worker."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from titan_sdk.cluster.engines.process import job_environment
from titan_sdk.cluster.settings import ClusterSettings

__all__ = ["JobEnvironments", "find_devices", "share_out"]

_DEVICES = Path("/proc/driver/nvidia/gpus")
_AWAY_SECONDS = 7 * 24 * 3600
"""Seconds for which a job with the runtime waits for the next master, to hand in its result."""


class JobEnvironments:
    """The environments by the worker's name, made when they are first needed.

    Args:
        address: the master's address for jobs.
        socket_path: the master's Unix socket for jobs, if they need one.
        ends: the folder of the final records; see ``FinalRecords``.
    """

    def __init__(
        self, settings: ClusterSettings, address: tuple[str, int], socket_path: Path | None, ends: Path
    ) -> None:
        self._settings, self._address, self._socket_path = settings, address, socket_path
        self._ends = ends.absolute()
        self._made: dict[str, dict[str, str]] = {}
        self._devices: dict[str, str] | None = None

    def __call__(self, worker: str) -> dict[str, str]:
        if worker not in self._made:
            self._made[worker] = self._make(worker)
        return self._made[worker]

    def _make(self, worker: str) -> dict[str, str]:
        made = job_environment(os.environ, worker, *self._address)
        made.setdefault("TITAN_RUNTIME_LOG_LIMIT", str(self._settings.log_limit_bytes))
        made["TITAN_KEEP_ALIVE"] = "1"
        made.update(self.ends_of())
        made.update(self._devices_of(worker))
        if self._socket_path is not None:
            name = "TITAN_SOCKET" if self._settings.is_protected else "TITAN_RUNTIME_SOCKET"
            made[name] = str(self._socket_path)
            made["TITAN_RUNTIME_AWAY_PATIENCE"] = str(_AWAY_SECONDS)
        return made

    def ends_of(self) -> dict[str, str]:
        """The variable that tells launchers to write their final record to a file."""
        return {"TITAN_RUNTIME_ENDS": str(self._ends)}

    def _devices_of(self, worker: str) -> dict[str, str]:
        if self._devices is None:
            devices = self._settings.gpus
            if devices is None:
                devices = find_devices(os.environ)
            specs = self._settings.worker_specs()
            self._devices = share_out([(spec.name, spec.tag) for spec in specs], devices)
        seen = self._devices.get(worker)
        return {} if seen is None else {"CUDA_VISIBLE_DEVICES": seen}


def find_devices(environ: Mapping[str, str], listed: Path = _DEVICES) -> tuple[str, ...]:
    """The devices in the words of CUDA_VISIBLE_DEVICES: those that the master may see, else all of the machine."""
    given = environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return tuple(name.strip() for name in given.split(",") if name.strip())
    if not listed.is_dir():
        return ()
    return tuple(str(index) for index, _ in enumerate(sorted(listed.iterdir())))


def share_out(workers: Sequence[tuple[str, str]], devices: Sequence[str]) -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES of each GPU worker, by name. Empty without devices.

    Args:
        workers: the name and tag of each worker.
    """
    names = [name for name, tag in workers if tag == "GPU"]
    if not names or not devices:
        return {}
    if len(devices) < len(names):
        return {name: devices[index % len(devices)] for index, name in enumerate(names)}
    return {name: ",".join(devices[index :: len(names)]) for index, name in enumerate(names)}
