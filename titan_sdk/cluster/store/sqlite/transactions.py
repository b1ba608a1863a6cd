"""Changes to SQL, in transactions."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from titan_sdk.cluster.clock import Clock
from titan_sdk.cluster.store import changes
from titan_sdk.cluster.store.base import StoreFailed, Unstorable
from titan_sdk.cluster.store.sqlite import history, jobs, requests, retention, values

__all__ = ["Transactions", "transaction"]

_APPLY: dict[type, Callable[[sqlite3.Connection, Any], object]] = {
    changes.InsertJobs: jobs.insert,
    changes.SetRunning: jobs.set_running,
    changes.SetPending: jobs.set_pending,
    changes.SetPlaced: jobs.set_placed,
    changes.SetEnded: jobs.set_ended,
    changes.SetGone: jobs.set_gone,
    changes.ForgetHandles: jobs.forget_handles,
    changes.SetService: jobs.set_service,
    changes.AddHistory: history.add,
    changes.ForgetJobs: retention.forget,
}
_APPLY_AT: dict[type, Callable[[sqlite3.Connection, Any, float], object]] = {
    changes.Put: values.put,
    changes.Swap: values.swap,
    changes.AddMember: values.add_member,
    changes.RemoveMember: values.remove_member,
    changes.Delete: values.delete,
    changes.Expire: values.expire,
    changes.Sweep: values.sweep,
}


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """What is done inside is done as a whole or not at all; ``StoreFailed`` in the latter case."""
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    except sqlite3.Error as exc:
        raise StoreFailed(str(exc)) from exc
    except UnicodeError as exc:
        raise Unstorable(str(exc)) from exc


class Transactions:
    """The journal's ``commit``."""

    def __init__(self, db: sqlite3.Connection, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def __call__(self, batch: Sequence[tuple[changes.Change, ...]]) -> list[object]:
        """All of it or nothing.

        Raises:
            StoreFailed: nothing was written.
        """
        with transaction(self._db):
            return [self._apply(entry) for entry in batch]

    def _apply(self, entry: tuple[changes.Change, ...]) -> object:
        result: object = None
        for change in entry:
            if isinstance(change, changes.Once | changes.Begin | changes.Remember):
                result = self._apply_request(change)
                continue
            apply = _APPLY.get(type(change))
            if apply is not None:
                result = apply(self._db, change)
            else:
                result = _APPLY_AT[type(change)](self._db, change, self._clock.now())
            if isinstance(change, changes.Sweep):
                requests.forget(self._db, self._clock.now())
        return result

    def _apply_request(self, change: changes.Once | changes.Begin | changes.Remember) -> object:
        if isinstance(change, changes.Remember):
            requests.keep(self._db, change.request, change.reply)
            return None
        unknown = "" if isinstance(change, changes.Begin) else None
        if not requests.begin(self._db, change.request, unknown, self._clock.now()):
            return requests.find(self._db, change.request)
        if isinstance(change, changes.Begin):
            return None
        result = self._apply((change.change,))
        if result is not None:
            requests.keep(self._db, change.request, result)
        return result
