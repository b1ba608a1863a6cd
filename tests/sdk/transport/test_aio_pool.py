from __future__ import annotations

import asyncio

from titan_sdk import AsyncTitanClient
from titan_sdk.cluster import LocalCluster


async def test_a_close_that_is_cancelled_leaves_nothing_open() -> None:
    async with LocalCluster({"GENERAL": 1}) as cluster:
        client = AsyncTitanClient(cluster.host, cluster.port)
        await asyncio.gather(*(client.get_job_status(f"j{number}") for number in range(4)))
        pool = client._driver._pool
        connections = [connection for _, connection in pool._idle]
        assert len(connections) > 1
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        assert not any(connection.is_usable() for connection in connections)
