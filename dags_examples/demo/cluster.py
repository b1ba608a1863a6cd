"""The demo's Titan cluster: `titan up` as a person would start it, on a free port."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

from dags_examples.demo.processes import DemoFailed, ProcessGroup
from titan_sdk import TitanClient, TitanError

START_SECONDS = 20.0
WORKERS = {"GENERAL": 2, "GPU": 1}


def start(processes: ProcessGroup, folder: Path) -> str:
    """Start the master and its workers; returns `host:port` once all workers are there."""
    port = _free_port()
    log = folder / "titan-up.log"
    workers = [part for tag, count in WORKERS.items() for part in ("--workers", f"{tag}={count}")]
    command = [sys.executable, "-m", "titan_sdk", "up", "--port", str(port)]
    process = processes.start([*command, *workers, "--data-dir", str(folder / "titan")], log)
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _ready(port):
            return f"127.0.0.1:{port}"
        time.sleep(0.1)
    ended = process.poll()
    what = (
        f"not ready after {START_SECONDS:.0f} s"
        if ended is None
        else f"over at once, with exit status {ended}"
    )
    raise DemoFailed(f"`titan up` was {what}; see {log}")


def describe(address: str) -> str:
    """The workers that the master itself says it has."""
    host, _, port = address.rpartition(":")
    with TitanClient(host, int(port)) as client:
        return ", ".join(f"{count} {tag}" for tag, count in sorted(client.cluster_stats().tags.items()))


def _ready(port: int) -> bool:
    try:
        with TitanClient("127.0.0.1", port) as client:
            return len(client.cluster_stats().workers) >= sum(WORKERS.values())
    except TitanError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
