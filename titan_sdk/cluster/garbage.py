"""``titan gc``: forgetting old jobs where no master runs that would do it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from titan_sdk.cluster.backing import open_backing
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.housekeeping import forget_before
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.store.base import StoreFailed
from titan_sdk.cluster.store.changes import Sweep
from titan_sdk.cluster.store.redis.store import was_used
from titan_sdk.errors import InvalidArgument, TitanError

__all__ = ["Collected", "collect"]


@dataclass(frozen=True, slots=True)
class Collected:
    """What ``collect`` removed, or would."""

    jobs: int
    keys: int
    freed_bytes: int
    """On this machine's disk."""


async def collect(settings: ClusterSettings, before: float, *, dry_run: bool = False) -> Collected:
    """Remove what ended before a time from folder and store of a master that does not run, and shrink them.

    Raises:
        InvalidArgument: no master has ever used the store under that prefix.
        TitanError: a master uses them, or they cannot be read or written.
    """
    location = settings.store_location()
    if location is not None and not await was_used(location):
        raise InvalidArgument(
            f"no master has kept anything under the prefix {location.prefix!r} in the store {location.shown}; give "
            "--store and --store-prefix as to titan up"
        )
    data = DataDir(settings.data_dir)
    try:
        backing = await open_backing(settings, data)
        store, size = backing.store, await asyncio.to_thread(_size, data)
        try:
            found = Collected(await store.count_finished(before), await store.count_expired(), 0)
            if dry_run:
                return found
            await store.journal.write(Sweep())
            await forget_before(before, store, backing.logs, data)
            await store.compact()
        except StoreFailed as exc:
            raise TitanError(f"not everything could be removed: {exc}") from exc
        finally:
            await store.close()
        return Collected(found.jobs, found.keys, max(size - await asyncio.to_thread(_size, data), 0))
    finally:
        data.release()


def _size(data: DataDir) -> int:
    total = 0
    for path in data.root.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if path.is_file() else 0
    return total
