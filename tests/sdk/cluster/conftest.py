from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Meeting, Peer
from tests.sdk.cluster.store.opening import Open
from tests.support.redis_server import RedisServer
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.cluster.store.redis.store import open_redis
from titan_sdk.cluster.store.sqlite import SqliteStore


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalCluster]:
    """One cluster for a whole file: two GENERAL workers, one GPU."""
    with LocalCluster() as running:
        yield running


@pytest.fixture
def peer(shared: LocalCluster) -> Peer:
    return Peer((shared.host, shared.port))


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    made = Meeting()
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store again and again; each test that asks for it runs on all of them."""

    async def sqlite() -> Store:
        return SqliteStore(tmp_path / "db", asyncio.get_running_loop())

    async def redis() -> Store:
        return await open_redis(location)

    if request.param == "sqlite":
        return sqlite
    server: RedisServer = request.getfixturevalue("redis_server")
    location = Location(server.url, prefix=uuid.uuid4().hex)
    return redis


@pytest.fixture
async def store(open_store: Open) -> AsyncIterator[Store]:
    opened = await open_store()
    yield opened
    await opened.close()
