"""Finds or starts the node's worker process, which runs the jobs as on a single machine."""

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
    """A digest of the settings that need a separate worker process: the launcher, and its variables."""
    settings = sorted(item for item in environment.items() if item[0].startswith(_SETTINGS))
    words = runtime_bundle().sha256, protocol.VERSION, settings
    return hashlib.sha256(repr(words).encode()).hexdigest()[:12]


async def find_worker(folders: NodeFolders, settings: str, environment: Mapping[str, str]) -> WorkerClient:
    """Connect to the worker process of the node's runs with these settings. Starts it if need be.

    Raises:
        OSError: no process can be started.
    """
    file = folders.root / f"worker-{settings}"
    lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Only one process at a time searches or starts it.
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        # A process that is about to end, for lack of clients, closes this connection instead of answering.
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
