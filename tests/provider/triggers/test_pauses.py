"""Pauses end in time, early when there is news, and never swallow why a trigger is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from titan_provider.triggers.status_poller import wait_for_own, wait_for_shared

pytestmark = pytest.mark.airflow

Pause = Callable[[asyncio.Event, float], Awaitable[None]]
BOTH = pytest.mark.parametrize("pause", [wait_for_own, wait_for_shared])


@BOTH
async def test_it_ends_by_itself(pause: Pause) -> None:
    event = asyncio.Event()
    await pause(event, 0.01)
    assert not event.is_set()


@BOTH
async def test_it_ends_when_the_event_is_set(pause: Pause) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    await asyncio.wait_for(pause(event, 600), 30)
    assert event.is_set() == (pause is wait_for_shared)


async def test_a_late_timer_sets_nothing() -> None:
    event = asyncio.Event()
    event.set()
    await wait_for_own(event, 0.001)
    await wait_for_shared(asyncio.Event(), 0.002)  # a timer that is due after its
    assert not event.is_set()


@BOTH
@pytest.mark.parametrize("kill_first", [False, True])
async def test_a_kill_in_the_moment_in_which_it_ends_keeps_its_message(
    pause: Pause, kill_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    passed = 0.0
    monkeypatch.setattr(loop, "time", lambda: began + passed)
    task = asyncio.create_task(pause(asyncio.Event(), 60))  # type: ignore[arg-type]
    await asyncio.sleep(0)

    def hold_up() -> None:
        # Both are due when the loop goes on, so it handles them before the task takes notice of either.
        nonlocal passed
        loop.call_later(0.0 if kill_first else 61, task.cancel, "why")
        passed = 62.0

    loop.call_soon(hold_up)
    with pytest.raises(asyncio.CancelledError, match="why"):
        await task
