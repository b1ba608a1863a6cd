"""The cancellation by a trigger's ``on_kill``: it must be sure that the task was killed, and have time for its requests."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine
from typing import Any

from titan_provider.compat import TaskInstanceState
from titan_provider.triggers.compat import (
    BaseTrigger,
    current_task_state,
    in_triggerer,
    triggerer_calls_on_kill,
)

__all__ = ["finish_kill", "killed_state", "warm_up"]

_SECONDS = 25.0
"""Airflow's own limit is 30."""
_PATIENCE = 600.0
"""Seconds for which the task's state is asked for. The first answer of a busy triggerer took a minute."""
_AGAIN = 2.0

_under_way: set[asyncio.Task[None]] = set()
"""An event loop alone does not keep its tasks alive."""
_warm: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def warm_up(trigger: BaseTrigger) -> None:
    """Have Airflow build the API that tells task states before a kill needs it; once per triggerer.

    Airflow builds that API inside the triggerer at the first request. This takes a second, or a minute in a busy
    triggerer, which is more time than a kill has.

    :param trigger: one that begins to wait
    """
    loop = asyncio.get_running_loop()
    if loop in _warm or not triggerer_calls_on_kill or not in_triggerer():
        return
    _warm.add(loop)
    _keep(_ask_once(trigger, loop))


async def _ask_once(trigger: BaseTrigger, loop: asyncio.AbstractEventLoop) -> None:
    try:
        await current_task_state(trigger)
    except Exception as exc:  # noqa: BLE001 - the wait for the job goes on
        _warm.discard(loop)  # the next trigger tries again
        trigger.log.warning(
            "Airflow's triggerer does not tell task states now; until it does, a kill of this task cannot cancel its "
            "job: %s",
            exc,
        )


def _keep(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return task


async def finish_kill(trigger: BaseTrigger, what: str, work: Coroutine[Any, Any, None]) -> None:
    """Return when the work is done, or when Airflow's time for it is over; then it goes on by itself.

    Airflow cancels a killed trigger again every second, its ``on_kill`` included.

    :param what: the remote work, for the log
    :param work: cancels the jobs
    """
    task = _keep(_carry_out(trigger, what, work))
    loop = asyncio.get_running_loop()
    end = loop.time() + _SECONDS
    while not task.done() and loop.time() < end:
        try:
            await asyncio.wait([task], timeout=end - loop.time())
        except asyncio.CancelledError:
            continue
    if task.done():
        return
    trigger.log.warning(
        "%s is not cancelled yet, because Airflow's triggerer has not told the task's state for %.0f s; it is asked for "
        "%.0f s in all, and what comes of it is in the triggerer's own log",
        what,
        _SECONDS,
        _PATIENCE,
    )


async def _carry_out(trigger: BaseTrigger, what: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as exc:  # noqa: BLE001 - nobody else may be there to hear of it
        trigger.log.error("%s could not be cancelled and may still be running: %s", what, exc)


async def killed_state(trigger: BaseTrigger, what: str) -> str | None:
    """The state of the task when it was killed, cleared or marked; None when its work must live.

    Airflow also calls ``on_kill`` when it moves a trigger to another triggerer. The task is then still deferred.

    :param what: the remote work, for the log
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            state = await _ask(trigger, what)
    except TimeoutError:
        # A healthy job must not die of what Airflow cannot tell.
        trigger.log.error(
            "%s is not cancelled and may still be running, because Airflow's triggerer did not tell the task's state "
            "within %.0f s",
            what,
            _PATIENCE,
        )
        return None
    if state == TaskInstanceState.DEFERRED:
        trigger.log.info("The task is still deferred, so %s goes on", what)
        return None
    return "gone" if state is None else str(state)


async def _ask(trigger: BaseTrigger, what: str) -> str | None:
    said = False
    while True:
        try:
            return await current_task_state(trigger)
        except Exception as exc:  # noqa: BLE001 - Airflow may raise anything
            if not said:
                trigger.log.warning(
                    "%s is not cancelled yet, because the task's state is not known; asking again: %s",
                    what,
                    exc,
                )
            said = True
        await asyncio.sleep(_AGAIN)
