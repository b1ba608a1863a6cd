"""Where a task keeps the record of its submission between tries: Airflow's task state store, or TitanStore."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from titan_provider.compat import deployment, task_state_store
from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.work.plan import Record
from titan_sdk import TitanClient
from titan_sdk.xcom import TaskCoordinate

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["AirflowMemory", "Memory", "TitanMemory", "memory_of"]

_KEY = "titan_job"


class Memory(Protocol):
    """What outlives a try and a clear."""

    def load(self) -> Any:
        """The JSON value that an earlier try saved, or None."""

    def save(self, value: Any, about: str) -> None:
        """Replace what is kept; returns only when it is safe.

        :param about: what the value is needed for, as a refusal names it
        """

    def recall(self) -> Record | None:
        """The record that an earlier try kept, or None."""

    def keep(self, record: Record) -> None:
        """As :meth:`save`, of a record."""


class _Records(ABC):
    """A :class:`Memory` on ``load`` and ``save``."""

    @abstractmethod
    def load(self) -> Any: ...

    @abstractmethod
    def save(self, value: Any, about: str) -> None: ...

    def recall(self) -> Record | None:
        return Record.from_json(self.load())

    def keep(self, record: Record) -> None:
        self.save(record.to_json(), f"job {record.job_id!r}")


class AirflowMemory(_Records):
    """Airflow's task state store (3.3 and later).

    :param state: ``context["task_state_store"]``
    """

    def __init__(self, state: Any) -> None:
        self._state = state

    def load(self) -> Any:
        return self._state.get(_KEY)

    def save(self, value: Any, about: str) -> None:  # noqa: ARG002 - for stores that may refuse
        self._state.set(_KEY, value)


class TitanMemory(_Records):
    """A value in TitanStore, for versions of Airflow without a task state store.

    :param key: of one task instance of one DAG run of one Airflow deployment
    """

    def __init__(self, client: TitanClient, key: str) -> None:
        self._client = client
        self._key = key

    def load(self) -> Any:
        """As :class:`Memory` says.

        :raises StoreUnavailable: a real master's store is down, which it does not tell from an absent value
        """
        text = self._client.store_get(self._key)
        if not text and not self._client.server_info().is_bundled:
            self._client.store_put(f"{self._key}:probe", "1")
            text = self._client.store_get(self._key)
        return json.loads(text) if text else None

    def save(self, value: Any, about: str) -> None:
        """Write and read back: a real master says OK to a write while its store is down.

        :raises TitanMasterUnreachable: the value did not stay
        """
        text = json.dumps(value)
        self._client.store_put(self._key, text)
        if self._client.store_get(self._key) != text:
            raise TitanMasterUnreachable(
                f"nothing was submitted: TitanStore behind {self._client.config.address} did not keep the record of "
                f"{about}, without which a crash of this task would submit it twice; start or repair "
                "TitanStore, or set durable=False"
            )


def memory_of(context: Context, client: TitanClient) -> Memory:
    """Where the task of that context keeps its record.

    :param context: the task's context
    :param client: reaches the TitanStore that is used where Airflow has no store
    """
    state = task_state_store(context)
    if state is not None:
        return AirflowMemory(state)
    # Not ti.id, which is new for every try. The run's start is in the record: a clear may change it.
    return TitanMemory(client, TaskCoordinate.of(context["ti"]).record_key(deployment()))
