"""Everything that depends on Airflow's version, together with ``xcom/base.py`` and ``triggers/compat.py``.

Airflow 3.3 is first-class, 2.11 the floor. A function here says what a version cannot do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseHook,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    PokeReturnValue,
    TaskInstanceState,
    conf,
    mask_secret,
)

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
    from datetime import datetime

    from airflow.sdk import Context

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "PokeReturnValue",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskInstanceState",
    "amask_secret",
    "conf",
    "dag_run_clear_number",
    "dag_run_started",
    "deployment",
    "first_reschedule",
    "form_widgets",
    "get_async_connection",
    "get_async_extra_dejson",
    "mask_secret",
    "read_xcom",
    "task_state_store",
    "trigger_timed_out",
]


def task_state_store(context: Context) -> Any | None:
    """The store that outlives a task's tries (Airflow 3.3+), or None.

    :param context: the task's context
    """
    return context.get("task_state_store")


def dag_run_clear_number(context: Context) -> int:
    """The number of clears of tasks of this DAG run so far.

    :param context: the task's context
    """
    return int(getattr(context["dag_run"], "clear_number", None) or 0)


def dag_run_started(context: Context) -> str:
    """The start of this DAG run; empty where Airflow does not tell.

    :param context: the task's context
    """
    started = getattr(context["dag_run"], "start_date", None)
    return started.isoformat() if started else ""


def first_reschedule(context: Context) -> datetime | None:
    """The moment of the task's first reschedule since its first try or its last clear; None before that. Airflow's sensors
    count their ``timeout`` from there.

    :param context: the task's context
    """
    ti: Any = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        first = ti.get_first_reschedule_date(context)
    else:
        # Airflow 2's own function, so that both count from the same moment; 2.11 is the last version that has it.
        from airflow.sensors.base import _orig_start_date  # type: ignore[import-not-found]

        first_try = (ti.max_tries or 0) - (context["task"].retries or 0) + 1
        first = _orig_start_date(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
            try_number=first_try,
        )
    return cast("datetime | None", first)


def trigger_timed_out(exc: BaseException) -> bool:
    """Whether a deferred task is resumed only because it had waited for too long.

    :param exc: the exception of its ``resume_execution``
    """
    # Airflow 2 raises the same for a trigger that failed; the text alone tells them apart.
    return isinstance(exc, TaskDeferralTimeout) and "timeout" in str(exc).lower()


def deployment() -> str:
    """A text that tells this Airflow from another one on the same Titan master: the place of its API or its database.

    Tasks on Airflow 3 know the address of the API server, and no database.
    """
    places = (("core", "execution_api_server_url"), ("database", "sql_alchemy_conn"), ("api", "base_url"))
    return next((text for place in places if (text := conf.get(*place, fallback=None))), "")


def read_xcom(ti_key: Any, key: str) -> Any:
    """An XCom of one run of a task, as any XCom backend gives it.

    :param ti_key: the task instance's key, as an operator link is given it
    """
    # Not above: with our own backend switched on, importing XCom imports that backend.
    from airflow.providers.common.compat.sdk import XCom

    return XCom.get_value(ti_key=ti_key, key=key)


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
