"""What tests of ended jobs ask of this machine: whether a process is gone, and a wait for that."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from titan_sdk.cluster.worker.protocol import IDLE

__all__ = ["forks_of", "has_ended", "launchers_of", "parent_of", "pauses_of", "wait_for", "worker_processes"]


def has_ended(pid: str) -> bool:
    """Whether it is gone, or waits to be reaped by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(condition: Callable[[], object], seconds: float = 240.0) -> None:
    """Return once the condition is true; fail after so many seconds, which a slow machine does not miss."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to that in {seconds:g} s"
        time.sleep(0.02)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def worker_processes(data_dir: Path) -> list[int]:
    """Those of a data directory, without their forks, which are called after runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            name = (path / "comm").read_text()
        except OSError:
            continue
        if str(data_dir / "machine").encode() in words and not name.startswith("titan-"):
            found.append(int(path.name))
    return found


def forks_of(data_dir: Path) -> set[str]:
    """Names of the forks of its worker processes: one for each run that has begun and not ended."""
    return set(launchers_of(data_dir))


def launchers_of(data_dir: Path) -> dict[str, int]:
    """Those forks' process numbers, by name; of a job with the runtime it is its launcher."""
    parents, found = {str(pid) for pid in worker_processes(data_dir)}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "stat").read_text().rpartition(")")[2].split()[1] in parents:
                found[(path / "comm").read_text().strip()] = int(path.name)
        except OSError:
            continue
    return {name: pid for name, pid in found.items() if name.startswith("titan-") and name != IDLE}


def pauses_of(pid: int) -> float:
    """How often a process has gone to sleep so far; endless for one that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return math.inf
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
