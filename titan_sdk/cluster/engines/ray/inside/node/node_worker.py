"""The worker process of a node, which runs the jobs as on one machine: the first run starts it."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from titan_sdk.cluster.engines.ray.inside.node.node_folders import NodeFolders
from titan_sdk.cluster.worker import protocol
from titan_sdk.cluster.worker.client import WorkerClient, connect, spawn
from titan_sdk.runtime.bundle import runtime_bundle

__all__ = ["find_worker", "settings_of"]

_SETTINGS = "TITAN_RUNTIME_"


def settings_of(environment: Mapping[str, str]) -> str:
    """What makes a worker process another one: its launcher, and what a launcher reads of its environment."""
    settings = sorted(item for item in environment.items() if item[0].startswith(_SETTINGS))
    words = runtime_bundle().sha256, protocol.VERSION, settings
    return hashlib.sha256(repr(words).encode()).hexdigest()[:12]


async def find_worker(folders: NodeFolders, settings: str, environment: Mapping[str, str]) -> WorkerClient:
    """Connect to the process that all of the node's runs with these settings are started in.

    Raises:
        OSError: there is none, and none can be started.
    """
    file = folders.root / f"worker-{settings}"
    lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # No other process looks for it meanwhile.
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        # One that is about to end, as nobody was connected, closes this connection instead of answering.
        found = await connect(Path(file.read_text("utf-8"))) if file.exists() else None
        if found is not None:
            return found
        folders.sweep()
        bundle = runtime_bundle().sha256
        worker = await spawn(
            folders.sockets, folders.root.name, folders.root, bundle, environment, orphan=True
        )
        file.write_text(str(worker.path), "utf-8")
        return worker
    finally:
        os.close(lock)
