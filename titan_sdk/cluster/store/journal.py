"""Group commit: everything written in one turn of the event loop is one transaction.

Whatever must not happen before it is durable (a reply, the start of a process) hangs on its entry.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Journal", "Operation"]

log = logging.getLogger(__name__)

Operation = Callable[[sqlite3.Connection], object]
RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _Entry:
    operation: Operation
    done: Callable[[object], None] | None
    failed: Callable[[sqlite3.Error], None] | None
    """``None``: the master's own bookkeeping, which is kept and tried again until it is stored."""


class Journal:
    """Order is kept: an operation is never durable before one that was written earlier and succeeded."""

    def __init__(self, db: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._db = db
        self._loop = loop
        self._pending: list[_Entry] = []
        self._timer: asyncio.Handle | None = None

    def write(self, operation: Operation) -> asyncio.Future[object]:
        """A client's write: the future has the operation's result once it is durable, or ``sqlite3.Error``."""
        future: asyncio.Future[object] = self._loop.create_future()

        def done(result: object) -> None:
            if not future.done():
                future.set_result(result)

        def failed(exc: sqlite3.Error) -> None:
            if not future.done():
                future.set_exception(exc)

        self._add(_Entry(operation, done, failed))
        return future

    def write_with(
        self, operation: Operation, done: Callable[[object], None], failed: Callable[[sqlite3.Error], None]
    ) -> None:
        """A client's write whose outcome must be dealt with before any later entry is."""
        self._add(_Entry(operation, done, failed))

    def record(self, operation: Operation, then: Callable[[], None] | None = None) -> None:
        """The master's own bookkeeping: tried until it succeeds; ``then`` is called once it is durable."""
        self._add(_Entry(operation, None if then is None else lambda _: then(), None))

    def flush(self) -> None:
        """Commit what is pending now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._pending = self._pending, []
        if not batch:
            return
        try:
            results = self._commit(batch)
        except sqlite3.Error:
            self._one_by_one(batch)
            return
        for entry, result in zip(batch, results, strict=True):
            if entry.done is not None:
                entry.done(result)

    def _add(self, entry: _Entry) -> None:
        self._pending.append(entry)
        if self._timer is None:
            self._timer = self._loop.call_soon(self.flush)

    def _commit(self, batch: list[_Entry]) -> list[object]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            results = [entry.operation(self._db) for entry in batch]
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return results

    def _one_by_one(self, batch: list[_Entry]) -> None:
        """After a failed batch: find out which entries the failure is about."""
        kept: list[_Entry] = []
        for entry in batch:
            try:
                if kept and entry.failed is None:
                    # Bookkeeping stays in order behind what could not be stored yet.
                    kept.append(entry)
                    continue
                (result,) = self._commit([entry])
            except sqlite3.Error as exc:
                log.error("cannot write the master's state: %s", exc)
                if entry.failed is not None:
                    entry.failed(exc)
                else:
                    kept.append(entry)
                continue
            if entry.done is not None:
                entry.done(result)
        if kept:
            self._pending[:0] = kept
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(RETRY_SECONDS, self.flush)
