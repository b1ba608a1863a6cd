"""The one module that branches on Airflow's version (with ``xcom/base.py``); the rest imports these names.

Airflow 3.3 is first-class, 2.11 the floor. What a version cannot do is a function here that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    BaseHook,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    PokeReturnValue,
    TaskInstanceState,
    conf,
    mask_secret,
)
from airflow.triggers.base import BaseTrigger, TriggerEvent

try:
    from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout
except ModuleNotFoundError:  # Airflow 2, which has one exception for both
    from airflow.exceptions import TaskDeferralError  # type: ignore[no-redef]

    TaskDeferralTimeout = TaskDeferralError  # type: ignore[assignment,misc]

try:
    from airflow.sdk.log import amask_secret
except ImportError:  # before Airflow 3.3

    async def amask_secret(secret: Any, name: str | None = None) -> None:  # type: ignore[misc]
        """As ``mask_secret``; on these versions it waits for nobody."""
        mask_secret(secret, name)


if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowSkipException",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "BaseTrigger",
    "PokeReturnValue",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskInstanceState",
    "TriggerEvent",
    "amask_secret",
    "conf",
    "current_task_state",
    "dag_run_clear_number",
    "dag_run_started",
    "deployment",
    "form_widgets",
    "get_async_connection",
    "get_async_extra_dejson",
    "logs_take_timestamps",
    "mask_secret",
    "read_xcom",
    "task_state_store",
    "triggerer_calls_on_kill",
]

triggerer_calls_on_kill = hasattr(BaseTrigger, "on_kill")
"""Airflow 3.3+ tells a trigger that its task was killed; before, there is only ``cleanup()``."""


logs_take_timestamps = hasattr(BaseTrigger, "on_kill")
"""Airflow 3's structured loggers keep a ``timestamp`` that a record brings along."""


def task_state_store(context: Context) -> Any | None:
    """The store that outlives a task's tries (Airflow 3.3+), or None.

    :param context: the task's context
    """
    return context.get("task_state_store")


def dag_run_clear_number(context: Context) -> int:
    """How often tasks of this DAG run have been cleared so far.

    :param context: the task's context
    """
    return int(getattr(context["dag_run"], "clear_number", None) or 0)


def dag_run_started(context: Context) -> str:
    """When this DAG run began; empty where Airflow does not tell.

    :param context: the task's context
    """
    started = getattr(context["dag_run"], "start_date", None)
    return started.isoformat() if started else ""


def deployment() -> str:
    """What tells this Airflow from another one that uses the same Titan master: where its API or its database is.

    Tasks on Airflow 3 know the address of the API server, and no database.
    """
    places = (("core", "execution_api_server_url"), ("database", "sql_alchemy_conn"), ("api", "base_url"))
    return next((text for place in places if (text := conf.get(*place, fallback=None))), "")


def read_xcom(ti_key: Any, key: str) -> Any:
    """An XCom of one run of a task, as any XCom backend gives it.

    :param ti_key: what an operator link is given
    """
    # Not above: with our own backend switched on, importing XCom imports that backend.
    from airflow.providers.common.compat.sdk import XCom

    return XCom.get_value(ti_key=ti_key, key=key)


async def current_task_state(trigger: BaseTrigger) -> str | None:
    """State of the task instance that a trigger works for, or None when it has none any more.

    :param trigger: a trigger that runs in a triggerer
    """
    # asgiref comes with Airflow; its thread keeps the event loop free while the API server answers.
    from asgiref.sync import sync_to_async

    ti: Any = trigger.task_instance
    if ti is None:
        return None
    return await sync_to_async(_state_reader())(ti)


def _state_reader() -> Callable[[Any], str | None]:
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ModuleNotFoundError:  # Airflow 2: triggers may read the database
        return _state_from_database

    def read(ti: Any) -> str | None:
        states = RuntimeTaskInstance.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
        # The answer's key of a mapped task has its index behind the task id.
        key = f"{ti.task_id}_{ti.map_index}" if ti.map_index >= 0 else ti.task_id
        state = states.get(ti.run_id, {}).get(key)
        return None if state is None else str(getattr(state, "value", state))

    return read


def _state_from_database(ti: Any) -> str | None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        row = (
            session.query(TaskInstance)
            .filter_by(dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index)
            .one_or_none()
        )
        return None if row is None else str(row.state)


def form_widgets(fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Airflow 2's connection form (wtforms), built from Airflow 3's ``conn-fields``; empty on Airflow 3.

    :param fields: the ``conn-fields`` of the provider info
    """
    try:
        from wtforms import PasswordField, StringField  # type: ignore[import-untyped]
    except ModuleNotFoundError:  # Airflow 3, which has no use for it
        return {}

    widgets = {}
    for name, field in fields.items():
        kind = PasswordField if field["schema"].get("format") == "password" else StringField
        widgets[name] = kind(field["label"], description=field["description"])
    return widgets
