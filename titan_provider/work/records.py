"""The place of a task's record between its tries: Airflow's task state store, or TitanStore."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from titan_provider.compat import deployment, task_state_store
from titan_provider.exceptions import TitanMasterUnreachable
from titan_sdk import TitanClient
from titan_sdk.xcom import TaskCoordinate

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["AirflowRecords", "RecordStore", "TitanRecords", "record_store"]

_KEY = "titan_job"


class RecordStore(Protocol):
    """One JSON value that outlives a try and a clear."""

    def load(self) -> Any:
        """The value that an earlier try saved, or None."""

    def save(self, value: Any, about: str) -> None:
        """Replace the value; returns only when it is safe.

        :param about: the job that the value is about, as a refusal names it
        """


class AirflowRecords:
    """Airflow's task state store (3.3 and later).

    :param state: ``context["task_state_store"]``
    """

    def __init__(self, state: Any) -> None:
        self._state = state

    def load(self) -> Any:
        return self._state.get(_KEY)

    def save(self, value: Any, about: str) -> None:  # noqa: ARG002 - for stores that may refuse
        self._state.set(_KEY, value)


class TitanRecords:
    """A value in TitanStore, for versions of Airflow without a task state store.

    :param key: of one task instance of one DAG run of one Airflow deployment
    """

    def __init__(self, client: TitanClient, key: str) -> None:
        self._client = client
        self._key = key

    def load(self) -> Any:
        """The value that an earlier try saved, or None.

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


def record_store(context: Context, client: TitanClient) -> RecordStore:
    """The place of the record of the task with that context.

    :param client: reaches the TitanStore that is used where Airflow has no store
    """
    state = task_state_store(context)
    if state is not None:
        return AirflowRecords(state)
    # Not ti.id, which is new for every try. The run's start is in the record: a clear may change it.
    return TitanRecords(client, TaskCoordinate.of(context["ti"]).record_key(deployment()))
