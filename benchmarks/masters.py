"""Masters to measure, each a process of its own: a client that shared its interpreter would measure the lock."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Bundled", "bundled", "slots"]


@dataclass(frozen=True, slots=True)
class Bundled:
    """A running `titan up`."""

    host: str
    port: int
    pid: int
    data_dir: Path

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port


def slots() -> str:
    """Job slots at which the machine does most: one job more than cores, while some are between two steps.

    Bare processes are given the number at which they do best, too; more of them only take each other's caches.
    """
    return str(len(os.sched_getaffinity(0)) + 1)


@contextlib.contextmanager
def bundled(*options: str) -> Iterator[Bundled]:
    """A bundled master on a port of its own and an empty folder, with these options of `titan up`."""
    with tempfile.TemporaryDirectory(prefix="titan-bench-") as folder:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "titan_sdk",
                "--json",
                "up",
                "--port",
                "0",
                "--data-dir",
                folder,
                *options,
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("TITAN_")},
        )
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            yield Bundled(said["host"], said["port"], process.pid, Path(folder))
        finally:
            process.terminate()
            process.wait(timeout=60)
