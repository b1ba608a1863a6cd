"""The parts of Airflow 2.11 and 3 that the XCom backend uses.

Airflow imports its XCom backend during its own imports, which ``titan_provider.compat`` may have started. Therefore no
module of the backend may import ``titan_provider.compat``, and these parts are here.
"""

from __future__ import annotations

import importlib
import json
from contextvars import ContextVar
from typing import Any

from airflow.providers.common.compat.sdk import conf

from titan_sdk import values
from titan_sdk.xcom import TaskCoordinate

_TRIED = 1 << 20
"""The greatest length of a value for which Airflow's own serialisation is tried."""

_deleting: ContextVar[tuple[TaskCoordinate, str] | None] = ContextVar("titan_xcom_deleting", default=None)

try:
    from airflow.sdk.bases.xcom import BaseXCom as _AirflowXCom

    class BaseXCom(_AirflowXCom):
        """Airflow 3's class, with a note of the XCom that is deleted, because ``purge`` gets only its value."""

        @classmethod
        def delete(
            cls,
            key: str,
            task_id: str,
            dag_id: str,
            run_id: str,
            map_index: int | None = None,
            **more: Any,
        ) -> None:
            """Delete an XCom, as Airflow's own class does."""
            index = -1 if map_index is None else map_index
            coordinate = TaskCoordinate(dag_id, run_id, task_id, index, more.get("region_id"))
            whose = _deleting.set((coordinate, key))
            try:
                super().delete(
                    key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index, **more
                )
            finally:
                _deleting.reset(whose)

    _is_bytes = False
except ModuleNotFoundError:  # Airflow 2
    from airflow.models.xcom import BaseXCom  # type: ignore[no-redef]

    _is_bytes = True

__all__ = [
    "BaseXCom",
    "Stored",
    "database_to_plain",
    "exact_in_airflow",
    "is_titan_backend",
    "plain_to_database",
    "purged_xcom",
]


def purged_xcom(row: Any) -> tuple[TaskCoordinate, str] | None:
    """The task and the key of the XCom that Airflow is deleting; None if they are unknown.

    :param row: the argument of ``purge``: a row of the database on Airflow 2, often a bare value on 3
    """
    if (deleting := _deleting.get()) is not None:
        return deleting
    if not all(isinstance(getattr(row, name, None), str) for name in ("dag_id", "run_id", "task_id", "key")):
        return None
    return TaskCoordinate.of(row), row.key


def database_to_plain(value: Any) -> Any:
    """The JSON value of an XCom in the database's form, which is bytes of JSON on Airflow 2."""
    return json.loads(value) if _is_bytes else value


def plain_to_database(value: Any) -> Any:
    """The reverse of :func:`database_to_plain`."""
    return json.dumps(value).encode() if _is_bytes else value


class Stored:
    """The argument of ``BaseXCom.deserialize_value``, which needs only a ``value``."""

    def __init__(self, value: Any) -> None:
        self.value = value


def exact_in_airflow(value: Any) -> bool:
    """Whether Airflow's own serialisation returns exactly this value. It is tried out, because no rule tells."""
    try:
        form = json.dumps(values.dump(value))
        if len(form) > _TRIED:
            return False
        stored = database_to_plain(BaseXCom.serialize_value(value))
        back = BaseXCom.deserialize_value(
            Stored(plain_to_database(json.loads(json.dumps(stored, allow_nan=False))))
        )
        return json.dumps(values.dump(back)) == form
    except Exception:  # noqa: BLE001 - the serialisers of all kinds of values run here
        return False


def is_titan_backend() -> bool:
    """Whether XComs of this Airflow go through TitanStoreXComBackend."""
    name = conf.get("core", "xcom_backend", fallback="")
    if not name or name.startswith("airflow."):
        return False
    from titan_provider.xcom.titan_store import TitanStoreXComBackend  # imports this module

    try:
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(found, type) and issubclass(found, TitanStoreXComBackend)
