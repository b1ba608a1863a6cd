"""The journal: group commit. All changes of one turn of the event loop, or of the time of a running commit, are one commit.

A step that needs a durable change (a reply, the start of a process) waits for the change's entry.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from titan_sdk.cluster.problems import Sparingly
from titan_sdk.cluster.store.changes import (
    AddHistory,
    Change,
    ForgetJobs,
    InDoubt,
    InsertJobs,
    Lost,
    Operation,
    StoreFailed,
    Unavailable,
    Unstorable,
)
from titan_sdk.cluster.store.job_table import JobTable, Step, fresh, transition
from titan_sdk.cluster.store.rows import HistoryRow, JobRow, NewJob

__all__ = ["RETRY_SECONDS", "Backend", "Batch", "Feed", "Journal", "JournalEntry"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
_MOST = 500
"""The most entries of one commit."""
_KEPT = 50_000
"""The number of jobs whose latest change is remembered."""


@dataclass(slots=True)
class JournalEntry:
    """Changes that become durable together."""

    changes: tuple[Change, ...]
    client: asyncio.Future[object] | None = None
    """Gets the result. ``None``: the entry is the master's own bookkeeping, which is retried until it is durable."""
    then: Callable[[], None] | None = None
    """For bookkeeping: called once it is durable."""
    touched: tuple[int, ...] = ()
    """For bookkeeping: the numbers of the changed rows."""


class Batch:
    """The content of one commit: the new rows, and all other changes in their order.

    Making a batch has no effect.

    Args:
        table: the present rows, including changes by bookkeeping.
    """

    def __init__(self, entries: Sequence[JournalEntry], table: JobTable) -> None:
        self.entries = entries
        self.inserts: list[NewJob] = []
        self.rows: dict[int, JobRow] = {}
        """The changed rows, including rows of ``inserts`` that have changed since."""
        self.history: dict[int, list[HistoryRow]] = {}
        """The new history entries, by the job's number. Those of ``inserts`` begin with the submission."""
        self.forgets: list[tuple[str, int]] = []
        self.operations: list[Operation] = []
        self._table = table
        self._new: dict[int, NewJob] = {}
        self._results: list[int | None] = []
        for entry in entries:
            self._add(entry)
        changed = self.rows | self.history
        self.changed_before = [seq for seq in changed if seq not in self._new]
        """The numbers of rows and histories to save before the inserts, which replace rows of reused ids."""
        self.changed_new = [seq for seq in changed if seq in self._new]
        """The numbers to save after the inserts."""

    def row(self, seq: int) -> JobRow | None:
        """The row after this commit."""
        if seq in self.rows:
            return self.rows[seq]
        return fresh(self._new[seq]) if seq in self._new else self._table.by_number.get(seq)

    def job_ids(self) -> Iterator[str]:
        """The ids of the changed jobs."""
        yield from (job.job_id for job in self.inserts)
        yield from (row.job_id for row in self.rows.values())
        yield from (job_id for job_id, _ in self.forgets)

    def results(self, of_operations: Sequence[object]) -> Iterable[tuple[JournalEntry, object]]:
        """Each entry with the result of its last change."""
        for entry, index in zip(self.entries, self._results, strict=True):
            yield entry, None if index is None else of_operations[index]

    def _add(self, entry: JournalEntry) -> None:
        result = None
        for change in entry.changes:
            result = None
            if isinstance(change, InsertJobs):
                self.inserts += change.jobs
                self._new |= {job.seq: job for job in change.jobs}
            elif isinstance(change, ForgetJobs):
                self.forgets += change.jobs
            elif isinstance(change, AddHistory):
                if self.row(change.seq) is not None:
                    added = HistoryRow(change.at, change.event, change.detail)
                    self.history.setdefault(change.seq, []).append(added)
            elif not isinstance(change, Step):
                result = len(self.operations)
                self.operations.append(change)
            elif entry.client is not None and (row := self.row(change.seq)) is not None:
                self.rows[change.seq] = transition(row, change)
        for seq in entry.touched:
            row = self.row(seq)
            if row is not None:
                self.rows[seq] = row
        self._results.append(result)


class Backend(Protocol):
    """Makes a batch durable, as a whole or not at all."""

    waits: bool
    """Whether a commit takes a round trip. A failing attempt may then take seconds."""

    gathers: bool
    """Whether a commit takes longer than a turn of the loop. The changes of a turn then share one commit."""

    def commit(self, batch: Batch) -> list[object] | Awaitable[list[object]]:
        """The results of its operations, at once if it needs no waiting. The next commit begins after this one.

        Raises:
            InDoubt: it may have been done. The same batch is committed again until that is known.
            Lost: this master must no longer write.
            Unavailable: the store cannot be written at the moment. Nothing was done.
            StoreFailed: this batch cannot be written. Nothing was done.
        """


class Journal:
    """Order is kept: an entry is never durable before one that was written earlier and succeeded.

    An entry is one or more changes that become durable together; its result is that of the last one. An entry
    without changes is durable when everything before it is.

    Args:
        lost: called once, with the reason, when this master must no longer write.
        settled: called with durable rows that have left the table.
    """

    def __init__(
        self,
        backend: Backend,
        table: JobTable,
        loop: asyncio.AbstractEventLoop,
        lost: Callable[[str], None] | None = None,
        settled: Callable[[list[JobRow]], None] | None = None,
    ) -> None:
        self._backend, self._table, self._loop = backend, table, loop
        self._on_lost, self._on_settled = lost, settled
        self.feed = Feed()
        """The feed of changed jobs."""
        self._pending: list[JournalEntry] = []
        self._alone = 0
        """The number of first entries to commit one by one, because their common commit has failed."""
        self._doubtful: Batch | None = None
        self._down: StoreFailed | None = None
        """The error of the last attempt, if it will be repeated."""
        self.lost: StoreFailed | None = None
        self._closed = False
        self._busy = False
        self._timer: asyncio.Handle | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._sparingly = Sparingly(log, logging.ERROR)

    @property
    def failing(self) -> StoreFailed | None:
        """The error of the last commit, while bookkeeping waits for another attempt."""
        return self.lost or self._down

    def write(self, *changes: Change) -> asyncio.Future[object]:
        """Write a client's changes. The future gets the result once they are durable, or ``StoreFailed``."""
        future: asyncio.Future[object] = self._loop.create_future()
        if not changes and self._idle.is_set() and self.failing is None and not self._closed:
            future.set_result(None)  # everything before it is durable
            return future
        self._add(JournalEntry(changes, client=future))
        return future

    def record(self, *changes: Change, then: Callable[[], None] | None = None) -> None:
        """Write the master's own bookkeeping. It is retried until it succeeds; ``then`` is called once it is durable."""
        self._add(JournalEntry(changes, then=then, touched=self._table.begin(changes) if changes else ()))

    def commit(self) -> None:
        """Commit at once if that needs no waiting, and handle the outcomes before this returns. Otherwise the commit
        begins soon by itself.
        """
        # Without waiting, a turn of the loop costs more than the transaction that it would save.
        if not self._backend.gathers:
            self._go_on()

    def lose(self, exc: StoreFailed) -> None:
        """Refuse all changes from now on. Those under way may or may not have been done."""
        if self.lost is None:
            self.lost = exc
            if self._on_lost is not None:
                self._on_lost(str(exc))
            self._refuse_all(exc)

    async def close(self, seconds: float) -> bool:
        """Commit pending changes, and refuse the rest after that time. False: some were refused."""
        try:
            async with asyncio.timeout(seconds):
                self.commit()
                if self._backend.waits or self._down is None:
                    await self._idle.wait()
        except TimeoutError:
            pass
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task
        whole = not self._pending and self._doubtful is None
        self._refuse_all(self.lost or StoreFailed("the master has stopped"))
        return whole

    # ------------------------------------------------------------------ the way of an entry

    def _add(self, entry: JournalEntry) -> None:
        over = self.lost or (StoreFailed("the master has stopped") if self._closed else None)
        refused = over or (self._down if self._backend.waits else None)
        if refused is not None and entry.client is not None:
            entry.client.set_exception(refused)
            return
        if over is not None:
            return
        self._idle.clear()
        self._pending.append(entry)
        if not self._busy and self._timer is None:
            self._timer = self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Commit pending changes until a commit needs waiting. Reactions to the outcomes follow in the next turn."""
        if self._busy:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pending and self._doubtful is None:
            self._down = None
            return
        self._busy = True
        todo = len(self._pending)
        while (todo > 0 or self._doubtful is not None) and self.lost is None:
            batch = self._doubtful or self._take()
            todo -= len(batch.entries)
            try:
                results = self._backend.commit(batch)
            except Exception as exc:  # noqa: BLE001 - no memory, say: nothing was done
                again = self._failed(batch, exc)
                if again is None:
                    break
                todo += again
                continue
            if not isinstance(results, list):
                self._task = self._loop.create_task(self._wait(batch, results))
                return
            self._done(batch, results)
        self._pause()

    async def _wait(self, batch: Batch, results: Awaitable[list[object]]) -> None:
        again: int | None = 0
        try:
            found = await results
        except Exception as exc:  # noqa: BLE001 - as above
            again = self._failed(batch, exc)
        else:
            self._done(batch, found)
        self._task = None
        self._pause()
        if again is not None and not self._closed:
            self._go_on()

    def _take(self) -> Batch:
        count = 1 if self._alone else _MOST
        taken, self._pending = self._pending[:count], self._pending[count:]
        return Batch(taken, self._table)

    def _pause(self) -> None:
        self._busy = False
        if self.lost is not None:
            self._refuse_all(self.lost)
        waits = bool(self._pending) or self._doubtful is not None
        if not waits:
            self._idle.set()
        if self._timer is None and not self._closed and self.lost is None:
            if self._down is not None:
                self._timer = self._loop.call_later(RETRY_SECONDS, self._go_on)
            elif waits:
                self._timer = self._loop.call_soon(self._go_on)

    # ------------------------------------------------------------------ outcomes

    def _done(self, batch: Batch, results: list[object]) -> None:
        self._doubtful = self._down = None
        self._alone = max(self._alone - 1, 0)
        for entry in batch.entries:
            if entry.client is None:
                left = self._table.saved(entry.touched)
            else:
                left = self._table.apply(entry.changes)
            if left and self._on_settled is not None:
                self._on_settled(left)
        self.feed.note(batch.job_ids())
        for entry, result in batch.results(results):
            self._tell(entry, result)

    def _failed(self, batch: Batch, exc: Exception) -> int | None:
        """Handle a failed commit. Returns the number of entries to try again at once; ``None``: the next attempt follows
        after a pause.
        """
        failure = self._sentence(exc)
        if isinstance(failure, Lost):
            self._pending[:0] = batch.entries
            self._doubtful = None
            self.lose(failure)
            return None
        if isinstance(failure, InDoubt) or batch is self._doubtful:
            self._doubtful = batch
            self._stay_down(failure)
            return None
        if isinstance(failure, Unavailable):
            self._pending[:0] = batch.entries
            self._stay_down(failure)
            return None
        if len(batch.entries) > 1:
            # Commit one by one, to find the failing entries.
            self._pending[:0] = batch.entries
            self._alone = len(batch.entries)
            return self._alone
        (entry,) = batch.entries
        self._alone = max(self._alone - 1, 0)
        if entry.client is None:
            # No later change may overtake it: it may depend on this one, or be undone by it.
            self._pending[:0] = batch.entries
            self._stay_down(failure)
            return None
        if not isinstance(failure, Unstorable):
            self._sparingly.say(str(failure), f"cannot write the master's state: {failure}")
        _refuse([entry], failure)
        return 0

    def _sentence(self, exc: Exception) -> StoreFailed:
        if isinstance(exc, StoreFailed):
            return exc
        text = f"{type(exc).__name__}: {exc}".removesuffix(": ")
        self._sparingly.say(f"unexpected {text}", f"a commit failed: {text}", exc)
        return StoreFailed(text)

    def _stay_down(self, failure: StoreFailed) -> None:
        """Refuse clients' changes, keep bookkeeping in its order, and try again after a pause."""
        self._sparingly.say(str(failure), f"cannot write the master's state: {failure}")
        _refuse(self._pending, failure)
        self._pending = [entry for entry in self._pending if entry.client is None]
        self._alone = 0
        self._down = failure

    def _refuse_all(self, exc: StoreFailed) -> None:
        doubtful = [] if self._doubtful is None else self._doubtful.entries
        waiting, self._pending, self._doubtful = [*doubtful, *self._pending], [], None
        _refuse(waiting, exc)
        if not self._busy:
            self._idle.set()

    def _tell(self, entry: JournalEntry, result: object) -> None:
        """Report a durable entry. An error of its listener does not affect the next entry."""
        if entry.client is not None and not entry.client.done():
            entry.client.set_result(result)
        if entry.then is None:
            return
        try:
            entry.then()
        except Exception as exc:  # noqa: BLE001 - shown as what nobody expected
            message = "a step that depends on a commit could not be carried out"
            self._loop.call_exception_handler({"message": message, "exception": exc})


def _refuse(entries: Iterable[JournalEntry], exc: StoreFailed) -> None:
    """Report the error to the writers of clients' entries."""
    for entry in entries:
        if entry.client is not None and not entry.client.done():
            entry.client.set_exception(exc)


# ---------------------------------------------------------------------- the feed of changes


class Feed:
    """The changed jobs by increasing numbers: each job once, in the order of the latest changes.

    The feed is in memory, so it costs a commit almost nothing. A cursor contains this master's own mark. A client with
    another master's cursor, or with one that is too old, must list all jobs again.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._mark = secrets.token_hex(8)
        self._kept = kept
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._number = 0
        self._forgotten = 0
        """The highest number of a forgotten change."""
        self._events: set[asyncio.Event] = set()

    def note(self, job_ids: Iterable[str]) -> None:
        """Add jobs whose change is durable."""
        before = self._number
        for job_id in job_ids:
            self._number += 1
            self._latest[job_id] = self._number
            self._latest.move_to_end(job_id)
        while len(self._latest) > self._kept:
            self._forgotten = self._latest.popitem(last=False)[1]
        if self._number > before:
            for event in self._events:
                event.set()

    def cursor(self, number: int | None = None) -> str:
        """The cursor behind a change, by default behind the last one."""
        return f"{self._mark}-{self._number if number is None else number}"

    def number(self, cursor: str | None) -> int | None:
        """The number of a cursor; ``None`` if the changes since it are not all known."""
        mark, _, text = (cursor or "").partition("-")
        if mark != self._mark or not (text.isascii() and text.isdigit()) or len(text) > 18:
            return None
        return int(text) if self._forgotten <= int(text) <= self._number else None

    def since(self, number: int, limit: int) -> tuple[list[str], int]:
        """The jobs that have changed since, oldest change first, and the number of the last change."""
        newer = list(takewhile(lambda item: item[1] > number, reversed(self._latest.items())))[::-1][:limit]
        return [job_id for job_id, _ in newer], newer[-1][1] if newer else number

    @contextmanager
    def waking(self, event: asyncio.Event) -> Iterator[None]:
        """Set the event at the next change."""
        self._events.add(event)
        try:
            yield
        finally:
            self._events.discard(event)
