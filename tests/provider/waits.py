"""A wait as a task makes it: by blocking calls, here in a thread, so that the test goes on meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

from titan_provider.work.waiting import OwnClient, run_blocking
from titan_provider.work.watch import WorkWatch
from titan_sdk import ClientConfig, TitanClient


async def wait_as_a_task(watch: WorkWatch, config: ClientConfig, log: Any) -> None:
    """Return when nothing more can happen to the jobs."""

    def wait() -> None:
        with TitanClient(config=config) as client:
            run_blocking(watch.run(OwnClient(client, log)))

    await asyncio.to_thread(wait)
