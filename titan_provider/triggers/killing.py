"""What a trigger's ``on_kill`` needs: whether it means what it says, and the time to do it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from titan_provider.compat import TaskInstanceState
from titan_provider.triggers.base import BaseTrigger, current_task_state

__all__ = ["finish_kill", "killed_state"]

_SECONDS = 25.0
"""Airflow's own limit is 30."""

_under_way: set[asyncio.Task[None]] = set()
"""An event loop alone does not keep its tasks alive."""


async def finish_kill(work: Coroutine[Any, Any, None]) -> None:
    """Return when the work is done. Airflow cancels a killed trigger again every second, its ``on_kill`` included.

    :param work: what cancels the jobs
    """
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    loop = asyncio.get_running_loop()
    end = loop.time() + _SECONDS
    while not task.done():
        try:
            await asyncio.wait([task], timeout=end - loop.time())
        except asyncio.CancelledError:
            continue
        if loop.time() >= end:
            task.cancel()
            break
    await task


async def killed_state(trigger: BaseTrigger, what: str) -> str | None:
    """The state of the task when it was killed, cleared or marked; None when its work must live.

    Airflow also calls ``on_kill`` when it moves a trigger to another triggerer. The task is then still deferred.

    :param what: the remote work, for the log
    """
    try:
        state = await current_task_state(trigger)
    except Exception as exc:  # noqa: BLE001 - whatever Airflow raises, a healthy job must not die of it
        trigger.log.warning("%s is not cancelled, because the task's state is not known: %s", what, exc)
        return None
    if state == TaskInstanceState.DEFERRED:
        trigger.log.info("The task is still deferred, so %s goes on", what)
        return None
    return "gone" if state is None else str(state)
