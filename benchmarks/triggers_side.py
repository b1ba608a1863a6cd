"""A triggerer process with one event loop and nothing but Titan triggers, watched by itself."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from titan_provider.triggers.titan import TitanJobTrigger
from titan_sdk.transport.aio import AsyncConnection

SETTLE_SECONDS = 15.0


class Counter:
    """Requests sent and connections opened by this process's asynchronous clients."""

    def __init__(self) -> None:
        self.requests = self.opened = self.most_open = 0
        live: set[AsyncConnection] = set()
        talk, connect = AsyncConnection.talk, AsyncConnection.open
        close, abort = AsyncConnection.close, AsyncConnection.abort

        async def counted_talk(connection: AsyncConnection, *args: Any, **kwargs: Any) -> Any:
            self.requests += 1
            return await talk(connection, *args, **kwargs)

        async def counted_open(*args: Any) -> AsyncConnection:
            self.opened += 1
            connection = await connect(*args)
            live.add(connection)
            self.most_open = max(self.most_open, len(live))
            return connection

        async def counted_close(connection: AsyncConnection) -> None:
            live.discard(connection)
            await close(connection)

        def counted_abort(connection: AsyncConnection) -> None:
            live.discard(connection)
            abort(connection)

        AsyncConnection.talk = counted_talk  # type: ignore[method-assign]
        AsyncConnection.open = counted_open  # type: ignore[method-assign,assignment]
        AsyncConnection.close = counted_close  # type: ignore[method-assign]
        AsyncConnection.abort = counted_abort  # type: ignore[method-assign]


async def main(folder: Path, seconds: float) -> None:
    jobs = json.loads((folder / "jobs.json").read_text(encoding="utf-8"))
    counter = Counter()
    gc.collect()
    bare = _rss_kib()
    seen: dict[str, float] = {}
    tasks = {job_id: asyncio.create_task(_wait_for(job_id, seen)) for job_id in jobs["all"]}
    await asyncio.sleep(SETTLE_SECONDS)
    found: dict[str, Any] = {"threads": 0}
    started, cpu, requests, opened = time.monotonic(), time.process_time(), counter.requests, counter.opened
    while time.monotonic() - started < seconds:
        found["threads"] = max(found["threads"], len(os.listdir("/proc/self/task")))
        await asyncio.sleep(0.5)
    rss = _rss_kib()
    found |= {
        "seconds": time.monotonic() - started,
        "cpu": time.process_time() - cpu,
        "requests": counter.requests - requests,
        "opened": counter.opened - opened,
        "rss_mib": rss / 1024,
        "per_trigger_kib": (rss - bare) / len(tasks),
    }
    if seen:
        raise RuntimeError(f"{len(seen)} triggers fired before any job ended: {list(seen)[:3]}")
    (folder / "steady").touch()
    await asyncio.gather(*(tasks[job_id] for job_id in jobs["running"]))
    found["seen"] = seen
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    found["connections"] = counter.most_open
    (folder / "found.part").write_text(json.dumps(found), encoding="utf-8")
    (folder / "found.part").rename(folder / "found.json")


async def _wait_for(job_id: str, seen: dict[str, float]) -> None:
    trigger = TitanJobTrigger(titan_conn_id="titan_default", job_id=job_id)
    # As in a triggerer, the trigger is what its arguments in the database say.
    again = TitanJobTrigger(**trigger.serialize()[1])
    async for event in again.run():
        seen[job_id] = time.time()
        if event.payload["outcome"] != "ended":
            raise RuntimeError(f"{job_id}: {event.payload}")
        break


def _rss_kib() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("this system does not tell a process's memory")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
