"""A store for as long as a test needs it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.cluster.store.redis.store import RedisStore, open_redis

Open = Callable[[], Awaitable[Store]]
"""Opens the same store again and again."""


@contextlib.asynccontextmanager
async def opened(location: Location) -> AsyncIterator[RedisStore]:
    """One on Redis."""
    store = await open_redis(location)
    try:
        yield store
    finally:
        await store.close()
