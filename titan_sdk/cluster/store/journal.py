"""Group commit: everything written in one turn of the event loop is one transaction.

Whatever must not happen before it is durable (a reply, the start of a process) hangs on its entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from titan_sdk.cluster.problems import Sparingly
from titan_sdk.cluster.store.base import StoreFailed, Unstorable

__all__ = ["RETRY_SECONDS", "Entry", "Journal", "client_entry", "tell"]

log = logging.getLogger(__name__)

C = TypeVar("C")
T = TypeVar("T")

RETRY_SECONDS = 1.0


@dataclass(slots=True)
class Entry(Generic[C]):
    changes: tuple[C, ...]
    done: Callable[[object], None] | None
    failed: Callable[[StoreFailed], None] | None
    """``None``: the master's own bookkeeping, which is kept and tried again until it is stored."""


def client_entry(future: asyncio.Future[object], changes: tuple[C, ...]) -> Entry[C]:
    """An entry whose outcome a future gets."""

    def done(result: object) -> None:
        if not future.done():
            future.set_result(result)

    def failed(exc: StoreFailed) -> None:
        if not future.done():
            future.set_exception(exc)

    return Entry(changes, done, failed)


def tell(loop: asyncio.AbstractEventLoop, listener: Callable[[T], None] | None, outcome: T) -> None:
    """An entry's outcome to whom it concerns. Whatever that one does with it, the next one is told too."""
    if listener is None:
        return
    try:
        listener(outcome)
    except Exception as exc:  # noqa: BLE001 - shown as what nobody expected
        message = "what depends on a commit could not be carried out"
        loop.call_exception_handler({"message": message, "exception": exc})


class Journal(Generic[C]):
    """Implements ``Writes`` over a ``commit`` that does not wait: it makes entries durable together, and returns
    the result of each, or raises ``StoreFailed`` and has done nothing.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[tuple[C, ...]]], list[object]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._commit = commit
        self._loop = loop
        self._pending: list[Entry[C]] = []
        self._timer: asyncio.Handle | None = None
        self._flushing = False
        self._sparingly = Sparingly(log, logging.ERROR)
        self.failing: StoreFailed | None = None
        """See ``Writes``."""

    def write(self, *changes: C) -> asyncio.Future[object]:
        """See ``Writes``."""
        future: asyncio.Future[object] = self._loop.create_future()
        self._add(client_entry(future, changes))
        return future

    def write_with(
        self, change: C, done: Callable[[object], None], failed: Callable[[StoreFailed], None]
    ) -> None:
        """See ``Writes``."""
        self._add(Entry((change,), done, failed))

    def record(self, *changes: C, then: Callable[[], None] | None = None) -> None:
        """See ``Writes``."""
        self._add(Entry(changes, None if then is None else lambda _: then(), None))

    def commit(self) -> None:
        """See ``Writes``. A turn of the loop costs more than the transaction that it would save."""
        if self._pending:
            self.flush()

    def flush(self) -> None:
        """Commit what is pending now; what is written because of an outcome follows in the next turn."""
        if self._flushing:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._pending = self._pending, []
        if not batch:
            return
        self._flushing = True
        try:
            try:
                results = self._attempt(batch)
            except StoreFailed:
                self._one_by_one(batch)
                return
            self.failing = None
            for entry, result in zip(batch, results, strict=True):
                tell(self._loop, entry.done, result)
        finally:
            self._flushing = False

    def _attempt(self, batch: list[Entry[C]]) -> list[object]:
        try:
            return self._commit([entry.changes for entry in batch])
        except StoreFailed:
            raise
        except Exception as exc:
            # No memory, say. Nothing was done, as after any failure, and what was acknowledged is not forgotten for it.
            failure = f"{type(exc).__name__}: {exc}".removesuffix(": ")
            self._sparingly.say(f"unexpected {failure}", f"a commit failed: {failure}", exc)
            raise StoreFailed(failure) from exc

    def _add(self, entry: Entry[C]) -> None:
        self._pending.append(entry)
        if self._timer is None:
            self._timer = self._loop.call_soon(self.flush)

    def _one_by_one(self, batch: list[Entry[C]]) -> None:
        """After a failed batch: find out which entries the failure is about. Nothing overtakes bookkeeping that could
        not be stored: what comes later may rest on it, or be undone by it.
        """
        kept: list[Entry[C]] = []
        cause: StoreFailed | None = None
        for entry in batch:
            if cause is not None:
                if entry.failed is None:
                    kept.append(entry)
                tell(self._loop, entry.failed, cause)
                continue
            try:
                (result,) = self._attempt([entry])
            except StoreFailed as exc:
                if entry.failed is None or not isinstance(exc, Unstorable):
                    self._sparingly.say(str(exc), f"cannot write the master's state: {exc}")
                if entry.failed is None:
                    kept.append(entry)
                    cause = exc
                tell(self._loop, entry.failed, exc)
                continue
            tell(self._loop, entry.done, result)
        self.failing = cause
        if kept:
            self._pending[:0] = kept
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(RETRY_SECONDS, self.flush)
