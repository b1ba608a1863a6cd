"""The master's store, logs and artifacts, chosen by its settings."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass

from titan_sdk.cluster.artifacts import Area, FileArea, open_area
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.logs import FileLogs, LogStore
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.redis.logs import RedisLogs
from titan_sdk.cluster.store.redis.store import open_redis
from titan_sdk.cluster.store.sqlite import SqliteStore

__all__ = ["Storage", "open_storage"]


@dataclass(frozen=True, slots=True)
class Storage:
    store: Store
    logs: LogStore
    uploads: Area
    """The artifact registry."""
    scripts: Area
    """Scripts for RUN and DEPLOY."""
    cluster_id: str
    """The cluster's id, the same for every master of this store."""


async def open_storage(settings: ClusterSettings, data: DataDir, *, jobs_write_here: bool = True) -> Storage:
    """Open the store, logs and artifacts. The caller closes ``Storage.store``.

    Args:
        jobs_write_here: whether jobs write their logs directly to this machine's disk.

    Raises:
        TitanError: one of them cannot be used.
    """
    uploads, scripts = await asyncio.to_thread(_areas, settings, data)
    location, cap, synced = settings.store_location(), settings.log_limit_bytes, settings.is_synced
    store: Store
    logs: LogStore = FileLogs(data, cap, synced=synced)
    if location is None:
        store = SqliteStore(data.database, asyncio.get_running_loop(), synced=synced)
        identity = data.cluster_id()
    else:
        store = redis = await open_redis(location, synced=synced)
        identity = redis.identity
        if not jobs_write_here:
            logs = RedisLogs(redis.client, redis.journal, cap)
    return Storage(store, logs, uploads, scripts, identity)


def _areas(settings: ClusterSettings, data: DataDir) -> tuple[Area, Area]:
    synced = settings.is_synced
    if settings.artifacts is None:
        return FileArea(data.uploads, synced=synced), FileArea(data.scripts, synced=synced)
    url, scratch = str(settings.artifacts), data.root / "fetched"
    shutil.rmtree(scratch, ignore_errors=True)  # copies of a master that was killed
    uploads = open_area(url, "uploads", scratch, synced=synced)
    return uploads, open_area(url, "perm_files", scratch, synced=synced)
