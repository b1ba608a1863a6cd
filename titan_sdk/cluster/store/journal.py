"""Group commit: everything written in one turn of the event loop is one transaction.

Whatever must not happen before it is durable (a reply, the start of a process) hangs on its entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from titan_sdk.cluster.store.base import StoreFailed

__all__ = ["RETRY_SECONDS", "Ahead", "Entry", "Journal", "client_entry", "submission_entry"]

log = logging.getLogger(__name__)

C = TypeVar("C")

RETRY_SECONDS = 1.0
_LATE_SECONDS = 0.02
"""How long what is safe already may wait for others to be committed with."""
_MANY = 200
"""Entries that wait for no others."""


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


def submission_entry(
    change: C, safe: Callable[[], None], stored: Callable[[], None], failed: Callable[[StoreFailed], None]
) -> Entry[C]:
    """An entry of a submission that is safe once it is committed."""

    def done(_: object) -> None:
        stored()
        safe()

    return Entry((change,), done, failed)


D = TypeVar("D", contravariant=True)


class Ahead(Protocol[D]):
    """Keeps changes that are not committed yet, for less than a commit costs."""

    def add(self, change: D) -> bool:
        """Whether it is kept: then it will be carried out, by the next master if need be.

        Raises:
            StoreFailed: it cannot be; nothing of it is there.
        """

    def stored(self) -> None:
        """Everything that was added is committed."""


class Journal(Generic[C]):
    """Implements ``Writes`` over a ``commit`` that does not wait: it makes entries durable together, and returns
    the result of each, or raises ``StoreFailed`` and has done nothing.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[tuple[C, ...]]], list[object]],
        loop: asyncio.AbstractEventLoop,
        ahead: Ahead[C] | None = None,
    ) -> None:
        self._commit = commit
        self._loop = loop
        self._ahead = ahead
        self._pending: list[Entry[C]] = []
        self._timer: asyncio.Handle | None = None
        self._is_late = False
        """Whether the timer is one that whoever comes next need not wait for."""
        self._failing = False
        """Whether the last commit did not succeed as a whole."""

    @property
    def pending(self) -> int:
        """Entries that are not committed."""
        return len(self._pending)

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

    def submit(
        self,
        change: C,
        safe: Callable[[], None],
        stored: Callable[[], None],
        failed: Callable[[StoreFailed], None],
    ) -> None:
        """See ``Writes``."""
        # What was decided earlier in this turn, as the end of this id's last run, is to be durable before it is.
        is_next = self._timer is None or self._is_late
        try:
            # Where commits fail, clients are to be refused rather than told that all is well.
            kept = self._ahead is not None and is_next and not self._failing and self._ahead.add(change)
        except StoreFailed as exc:
            failed(exc)
            return
        if not kept:
            self._pending.append(submission_entry(change, safe, stored, failed))
            self.flush()
            return
        self._pending.append(Entry((change,), lambda _: stored(), None))
        if len(self._pending) >= _MANY:
            self._soon()
        elif self._timer is None:
            self._timer, self._is_late = self._loop.call_later(_LATE_SECONDS, self.flush), True
        safe()

    def commit(self) -> None:
        """See ``Writes``. A turn of the loop costs more than the transaction that it would save."""
        if self._pending:
            self.flush()

    def flush(self) -> None:
        """Commit what is pending now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._pending = self._pending, []
        if not batch:
            return
        try:
            results = self._commit([entry.changes for entry in batch])
        except StoreFailed:
            self._one_by_one(batch)
            return
        self._failing = False
        if self._ahead is not None:
            self._ahead.stored()
        for entry, result in zip(batch, results, strict=True):
            if entry.done is not None:
                entry.done(result)

    def _add(self, entry: Entry[C]) -> None:
        self._pending.append(entry)
        if self._timer is None or self._is_late:
            self._soon()

    def _soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._is_late = self._loop.call_soon(self.flush), False

    def _one_by_one(self, batch: list[Entry[C]]) -> None:
        """After a failed batch: find out which entries the failure is about. Nothing overtakes bookkeeping that could
        not be stored: what comes later may rest on it, or be undone by it.
        """
        self._failing = True
        kept: list[Entry[C]] = []
        cause: StoreFailed | None = None
        for entry in batch:
            if cause is not None:
                if entry.failed is not None:
                    entry.failed(cause)
                else:
                    kept.append(entry)
                continue
            try:
                (result,) = self._commit([entry.changes])
            except StoreFailed as exc:
                log.error("cannot write the master's state: %s", exc)
                if entry.failed is not None:
                    entry.failed(exc)
                else:
                    kept.append(entry)
                    cause = exc
                continue
            if entry.done is not None:
                entry.done(result)
        if kept:
            self._pending[:0] = kept
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._is_late = self._loop.call_later(RETRY_SECONDS, self.flush), False
