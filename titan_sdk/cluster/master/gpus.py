"""NVIDIA devices of this machine, and which GPU worker sees which of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["find_devices", "share_out"]

_DEVICES = Path("/proc/driver/nvidia/gpus")


def find_devices(environ: Mapping[str, str], listed: Path = _DEVICES) -> tuple[str, ...]:
    """Devices as CUDA_VISIBLE_DEVICES names them: those the master itself may see, else all of the machine."""
    given = environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return tuple(name.strip() for name in given.split(",") if name.strip())
    if not listed.is_dir():
        return ()
    return tuple(str(index) for index, _ in enumerate(sorted(listed.iterdir())))


def share_out(workers: Sequence[tuple[str, str]], devices: Sequence[str]) -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES of each GPU worker, by name; nothing is set where there are no devices.

    Args:
        workers: name and tag of each worker.
    """
    names = [name for name, tag in workers if tag == "GPU"]
    if not names or not devices:
        return {}
    if len(devices) < len(names):
        return {name: devices[index % len(devices)] for index, name in enumerate(names)}
    return {name: ",".join(devices[index :: len(names)]) for index, name in enumerate(names)}
