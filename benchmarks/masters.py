"""Masters to measure, each a process of its own: a client that shared its interpreter would measure the lock."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from titan_sdk import TitanClient, TitanJob

__all__ = ["Bundled", "bundled", "dag", "noop", "resident", "slots"]


@dataclass(frozen=True, slots=True)
class Bundled:
    """A running `titan up`, and a client of it."""

    pid: int
    client: TitanClient
    metrics_port: int

    def metrics(self) -> dict[str, float]:
        """What it tells Prometheus; the name is with its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as reply:
            lines = reply.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def slots() -> int:
    """Job slots at which the machine does most: one job more than cores, while some are between two steps.

    Bare processes are given the number at which they do best, too; more of them only take each other's caches.
    """
    return len(os.sched_getaffinity(0)) + 1


@contextlib.contextmanager
def bundled(*options: str) -> Iterator[Bundled]:
    """A bundled master on a port of its own and an empty folder, with these options of `titan up`."""
    with tempfile.TemporaryDirectory(prefix="titan-bench-", ignore_cleanup_errors=True) as folder:
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            metrics_port = int(chosen.getsockname()[1])
        command = [sys.executable, "-m", "titan_sdk", "--json", "up", "--port", "0", "--data-dir", folder]
        command += ["--metrics-port", str(metrics_port)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TITAN_")}
        with (Path(folder) / "stderr").open("wb") as errors:
            process = subprocess.Popen(
                [*command, *options], stdout=subprocess.PIPE, stderr=errors, text=True, env=environ
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the master did not start: {(Path(folder) / 'stderr').read_text()}")
            said = json.loads(line)
            with TitanClient(said["host"], said["port"]) as client:
                yield Bundled(process.pid, client, metrics_port)
        finally:
            process.terminate()
            process.wait(timeout=60)


def noop(folder: Path) -> Path:
    """The script of a job that does nothing."""
    script = folder / "noop.py"
    script.write_text("pass\n", encoding="utf-8")
    return script


def dag(name: str, script: Path, count: int, *, runtime: bool, chain: bool = False) -> list[TitanJob]:
    """Jobs that do not know each other, or each the next one's parent."""
    return [
        TitanJob(
            f"{name}-{n}", str(script), runtime=runtime, parents=[f"{name}-{n - 1}"] if chain and n else None
        )
        for n in range(count)
    ]


def resident(pid: int) -> float:
    """MiB of memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
