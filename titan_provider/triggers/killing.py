"""Whether a trigger's ``on_kill`` means what it says."""

from __future__ import annotations

from titan_provider.compat import BaseTrigger, TaskInstanceState, current_task_state

__all__ = ["killed_state"]


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
