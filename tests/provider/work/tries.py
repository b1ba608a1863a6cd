"""One task instance over its tries, each of which may die at any point, against a real master."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, Self

from titan_provider.work.cancel import Cancellation
from titan_provider.work.jobs import NamedJob
from titan_provider.work.plan import WorkRecord
from titan_provider.work.records import AirflowRecords, RecordStore
from titan_provider.work.remote import RemoteWork, new_record
from titan_sdk import TitanClient


class Crash(BaseException):
    """The process of a try is gone."""


class State(dict[str, Any]):
    """Airflow's task state store: it outlives tries and clears."""

    set = dict.__setitem__


class Fragile:
    """A store in the middle of whose chosen write the process dies: before it, so that nothing is kept."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self.crash_at: int | None = None
        self.writes = 0

    def load(self) -> Any:
        return self._store.load()

    def save(self, value: Any, about: str) -> None:
        self.writes += 1
        if self.writes == self.crash_at:
            raise Crash
        self._store.save(value, about)


class Hook:
    """As much of a TitanHook as is needed, with the test's client, which stays open."""

    def __init__(self, client: TitanClient) -> None:
        self.client = client

    def get_conn(self) -> Any:
        return nullcontext(self.client)

    def get_config(self) -> Any:
        return self.client.config

    def at(self, master: str) -> Hook:
        return self if master in ("", self.client.config.address) else Hook(TitanClient(master))


class TryWork(RemoteWork):
    """The work of one try, with the task's store."""

    kept: RecordStore

    def __enter__(self) -> Self:
        super().__enter__()
        self._store = self.kept
        return self


class Tries:
    """What Airflow knows of the task instance."""

    def __init__(self, client: TitanClient, store: RecordStore | None = None, name: str = "d") -> None:
        self.client = client
        self.store = store or AirflowRecords(State())
        self.dag_name: str | None = None
        self.dag_run = SimpleNamespace(clear_number=0, start_date=None)
        self.ti = SimpleNamespace(
            dag_id=name, task_id="t", run_id="r", map_index=-1, try_number=0, max_tries=2
        )

    def obtain(self, jobs: Sequence[NamedJob], admit: Any = None) -> WorkRecord:
        self.ti.try_number += 1
        context: Any = {"ti": self.ti, "dag_run": self.dag_run}
        hook: Any = Hook(self.client)
        work = TryWork(
            context,
            hook,
            logging.getLogger("test"),
            Cancellation(),
            on_kill=lambda: None,
            dag_name=self.dag_name,
        )
        work.kept = self.store
        with work:
            return work.obtain(new_record(context), jobs, admit)

    def clear(self) -> None:
        """What Airflow does when a person clears a task that is not running."""
        self.ti.max_tries = self.ti.try_number + 2
        self.dag_run.clear_number += 1

    def clear_while_running(self) -> None:
        self.dag_run.clear_number += 1
