"""The triggers' part of Airflow, on 2.11 and 3: task states, and the way of log lines to the task log.

Not in ``titan_provider/compat.py``, because a process that only parses DAG files needs none of it.

A trigger's line is not in the task log when it is written. It goes through a socket, of which the triggerer's main process
reads 4 KiB per turn of its loop; at ten lines a second, a busy triggerer is seconds behind. Lines that it has not read are
lost when it is killed, and belong to no task any more once the trigger has ended. So no line counts as copied, and no
trigger ends, before the socket is empty.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import weakref
from collections.abc import Callable
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from titan_sdk.xcom import TaskCoordinate

__all__ = [
    "BaseTrigger",
    "TriggerEvent",
    "current_task_state",
    "in_triggerer",
    "log_channel",
    "log_delivered",
    "logs_take_timestamps",
    "triggerer_calls_on_kill",
]

triggerer_calls_on_kill = hasattr(BaseTrigger, "on_kill")
"""Airflow 3.3+ tells a trigger that its task was killed; before, there is only ``cleanup()``."""


logs_take_timestamps = hasattr(BaseTrigger, "on_kill")
"""Airflow 3's structured loggers keep a ``timestamp`` that a record brings along."""


def in_triggerer() -> bool:
    """Whether this is a triggerer of Airflow 3; ``dags test`` runs triggers in the task's process, one request at a
    time.
    """
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    return type(getattr(runner, "SUPERVISOR_COMMS", None)).__name__ == "TriggerCommsDecoder"


def log_channel() -> int | None:
    """Descriptor of the socket through which the lines of a triggerer's triggers go; None elsewhere."""
    if not in_triggerer():
        return None
    import structlog  # comes with Airflow 3

    stream = getattr(structlog.get_config().get("logger_factory"), "io", None)
    return None if stream is None else int(stream.fileno())


async def current_task_state(trigger: BaseTrigger) -> str | None:
    """State of the task instance that a trigger works for, or None when it has none any more.

    :param trigger: a trigger that runs in a triggerer
    """
    # asgiref comes with Airflow. A thread keeps the event loop free while the API server answers, and one of its own
    # the thread that all other triggers share.
    from asgiref.sync import sync_to_async

    ti: Any = trigger.task_instance
    if ti is None:
        return None
    return await sync_to_async(_state_reader(), thread_sensitive=False)(TaskCoordinate.of(ti))


def _state_reader() -> Callable[[TaskCoordinate], str | None]:
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ModuleNotFoundError:  # Airflow 2: triggers may read the database
        return _state_from_database

    def read(task: TaskCoordinate) -> str | None:
        regional: dict[str, Any] = {} if task.region is None else {"region_id": task.region}
        states = RuntimeTaskInstance.get_task_states(
            dag_id=task.dag_id,
            task_ids=[task.task_id],
            run_ids=[task.run_id],
            map_index=task.map_index,
            **regional,
        )
        # The answer's key of a mapped task has its index behind the task id.
        key = f"{task.task_id}_{task.map_index}" if task.map_index >= 0 else task.task_id
        state = states.get(task.run_id, {}).get(key)
        return None if state is None else str(getattr(state, "value", state))

    return read


def _state_from_database(task: TaskCoordinate) -> str | None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        row = (
            session.query(TaskInstance)
            .filter_by(dag_id=task.dag_id, task_id=task.task_id, run_id=task.run_id, map_index=task.map_index)
            .one_or_none()
        )
        return None if row is None else str(row.state)


_LOOK = 0.05
LONGEST = 60.0
"""Seconds. A triggerer that is further behind loses lines in any case."""

_waits: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = weakref.WeakKeyDictionary()


async def log_delivered(seconds: float = LONGEST) -> bool:
    """Return once all lines written so far are in the task logs, or time is up; True where they are."""
    if not unread():
        return True
    loop = asyncio.get_running_loop()
    wait = _waits.get(loop)
    if (
        wait is None or wait.done()
    ):  # thousands of triggers look at one socket, so one of them does it for all
        wait = _waits[loop] = asyncio.create_task(_until_read())
    # Not asyncio.timeout: see pauses.py.
    done, _ = await asyncio.wait([wait], timeout=seconds)
    return bool(done)


async def _until_read() -> None:
    empty = 0
    while empty < 2:  # the second time, what was read last has been written
        await asyncio.sleep(_LOOK)
        empty = 0 if unread() else empty + 1


def unread() -> int:
    """Bytes that Airflow has not read yet; 0 where the system does not tell."""
    channel = log_channel()
    if channel is None or not sys.platform.startswith("linux"):
        return 0
    from fcntl import ioctl
    from termios import TIOCOUTQ

    try:
        (count,) = struct.unpack("i", ioctl(channel, TIOCOUTQ, bytes(4)))
    except OSError:  # the socket is closed: nobody reads any more
        return 0
    return int(count)
