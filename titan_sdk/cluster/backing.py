"""What a master keeps things in, chosen by its settings."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from titan_sdk.cluster.artifacts import Area, FileArea
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.log_store import FileLogs, LogStore
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.sqlite import SqliteStore

__all__ = ["Backing", "open_backing"]


@dataclass(frozen=True, slots=True)
class Backing:
    store: Store
    logs: LogStore
    uploads: Area
    """The artifact registry."""
    scripts: Area
    """Scripts for RUN and DEPLOY."""
    cluster_id: str
    """The same for every master of this store."""


async def open_backing(settings: ClusterSettings, data: DataDir) -> Backing:
    """Open everything; ``Backing.store`` is the caller's to close.

    Raises:
        TitanError: something of it cannot be used.
    """
    return Backing(
        SqliteStore(data.database, asyncio.get_running_loop()),
        FileLogs(data, settings.log_limit_bytes),
        FileArea(data.uploads),
        FileArea(data.scripts),
        data.cluster_id(),
    )
