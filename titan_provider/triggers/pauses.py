"""Pauses of a trigger in which no kill gets lost.

Airflow tells a trigger that was killed from one that only stops by the message of its cancellation. ``asyncio.timeout``
ends a pause by a cancellation without a message: a kill in the very moment in which the pause is over would lose its
own, ``on_kill`` would not be called, and the job would go on without an owner.
"""

from __future__ import annotations

import asyncio

__all__ = ["wait_for_own", "wait_for_shared"]


async def wait_for_own(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after that long; either way it is cleared.

    :param event: one that nobody else waits for
    """
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
    event.clear()


async def wait_for_shared(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after that long.

    :param event: left as it is
    """
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiter], timeout=seconds)
    finally:
        waiter.cancel()
