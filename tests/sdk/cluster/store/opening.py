"""A store on Redis for as long as a test needs it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.cluster.store.redis.store import RedisStore, open_redis


@contextlib.asynccontextmanager
async def opened(location: Location) -> AsyncIterator[RedisStore]:
    store = await open_redis(location)
    try:
        yield store
    finally:
        await store.close()
