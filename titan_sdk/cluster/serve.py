"""The foreground master behind ``titan up``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine

from titan_sdk.cluster.local import sdk_version
from titan_sdk.cluster.node import Node
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.errors import TitanError

__all__ = ["ClusterSettings", "run_master"]


def run_master(
    settings: ClusterSettings,
    on_ready: Callable[[str, int], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; then end jobs and services, store everything, and return 0.

    With ``drain_seconds`` jobs that run may end first, until a second signal comes. Jobs that were running are queued
    again when the next master uses the same folder.

    Args:
        on_ready: called with host and port once clients can connect.
        on_stop: called when the first signal has come, before anything ends.

    Raises:
        TitanError: folder, port or store cannot be used, or the store was lost to another master.
    """
    return asyncio.run(_serve(settings, on_ready, on_stop))


async def _serve(
    settings: ClusterSettings,
    on_ready: Callable[[str, int], None] | None,
    on_stop: Callable[[], None] | None,
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node(settings, sdk_version())
    host, port = await node.start()
    try:
        if on_ready is not None:
            on_ready(host, port)
        await _whichever(_set(stop), _done(node.lost))
        if on_stop is not None and stop.is_set():
            on_stop()
        if settings.drain_seconds and not node.lost.done():
            stop.clear()
            await _whichever(node.drain(), _set(stop))
    finally:
        await node.stop()
    if node.lost.done():
        raise TitanError(f"{node.lost.result()}; this master has stopped, and left what ran to the other one")
    return 0


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _done(future: asyncio.Future[str]) -> None:
    await asyncio.wait([future])


async def _whichever(*ways: Coroutine[None, None, object]) -> None:
    """Wait for the first of these; give up the others."""
    tasks = [asyncio.create_task(way) for way in ways]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
