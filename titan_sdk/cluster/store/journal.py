"""Group commit: what was written in one turn of the event loop, or while a commit was under way, is one commit.

What must not happen before it is durable (a reply, the start of a process) hangs on its entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from titan_sdk.cluster.problems import Sparingly
from titan_sdk.cluster.store.base import InDoubt, Lost, StoreFailed, Unavailable, Unstorable
from titan_sdk.cluster.store.batch import Batch, Entry
from titan_sdk.cluster.store.changes import Change
from titan_sdk.cluster.store.feed import Feed
from titan_sdk.cluster.store.rows import JobRow
from titan_sdk.cluster.store.table import JobTable

__all__ = ["RETRY_SECONDS", "Backend", "Journal"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
_MOST = 500
"""Entries of one commit."""


class Backend(Protocol):
    """What makes a batch durable, as a whole or not at all."""

    waits: bool
    """Whether a commit takes a round trip: then an attempt that fails may take seconds."""

    gathers: bool
    """Whether a commit takes longer than a turn of the loop, so that it pays to put what comes in one turn into one."""

    def commit(self, batch: Batch) -> list[object] | Awaitable[list[object]]:
        """The results of its operations, at once where that takes no waiting; another commit begins after this one.

        Raises:
            InDoubt: it may have been done; the same batch is given again until that is known.
            Lost: this master must not write any more.
            Unavailable: nothing can be written at the moment, whatever it is; nothing was done.
            StoreFailed: this batch cannot be written; nothing was done.
        """

    def settled(self, rows: list[JobRow]) -> None:
        """Rows that are durable and are not in the table any more."""


class Journal:
    """Implements ``Writes``.

    Args:
        lost: called once, with why, when this master must not write any more.
    """

    def __init__(
        self,
        backend: Backend,
        table: JobTable,
        loop: asyncio.AbstractEventLoop,
        lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._backend, self._table, self._loop, self._on_lost = backend, table, loop, lost
        self.feed = Feed()
        self._pending: list[Entry] = []
        self._alone = 0
        """How many of the first ones are committed one by one, as a commit of all of them has failed."""
        self._doubtful: Batch | None = None
        self._down: StoreFailed | None = None
        """Why the last attempt did not succeed, where something is to be tried again."""
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
        """See ``Writes``."""
        return self.lost or self._down

    def write(self, *changes: Change) -> asyncio.Future[object]:
        """See ``Writes``."""
        future: asyncio.Future[object] = self._loop.create_future()
        if not changes and self._idle.is_set() and self.failing is None and not self._closed:
            future.set_result(None)  # everything before it is durable
            return future

        self._add(Entry(changes, client=future))
        return future

    def record(self, *changes: Change, then: Callable[[], None] | None = None) -> None:
        """See ``Writes``."""
        self._add(Entry(changes, then=then, touched=self._table.begin(changes)))

    def commit(self) -> None:
        """See ``Writes``. Where nothing is waited for, a turn of the loop costs more than the transaction that it would
        save.
        """
        if not self._backend.gathers:
            self._go_on()

    def lose(self, exc: StoreFailed) -> None:
        """Refuse everything from now on; what is under way has been done or not."""
        if self.lost is None:
            self.lost = exc
            self._on_lost(str(exc))
            self._refuse_all(exc)

    async def close(self, seconds: float) -> bool:
        """Commit what is pending, and refuse what cannot be within that time; false if there was something."""
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

    def _add(self, entry: Entry) -> None:
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
        """Commit what is pending, until a commit has to be waited for; what outcomes lead to follows in the next turn."""
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
            if left:
                self._backend.settled(left)
        self.feed.note(batch.job_ids())
        for entry, result in batch.results(results):
            self._tell(entry, result)

    def _failed(self, batch: Batch, exc: Exception) -> int | None:
        """Deal with a commit that did not succeed: how many of its entries are to be tried again at once; ``None``:
        nothing is tried again before a moment has passed.
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
            # To find out which entries the failure is about.
            self._pending[:0] = batch.entries
            self._alone = len(batch.entries)
            return self._alone
        (entry,) = batch.entries
        self._alone = max(self._alone - 1, 0)
        if entry.client is None:
            # Nothing overtakes it: what comes later may rest on it, or be undone by it.
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
        """Refuse clients, keep the master's own records in their order, and try again in a moment."""
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

    def _tell(self, entry: Entry, result: object) -> None:
        """An entry is durable. Whatever its listener does with that, the next one is told too."""
        if entry.client is not None and not entry.client.done():
            entry.client.set_result(result)
        if entry.then is None:
            return
        try:
            entry.then()
        except Exception as exc:  # noqa: BLE001 - shown as what nobody expected
            message = "what depends on a commit could not be carried out"
            self._loop.call_exception_handler({"message": message, "exception": exc})


def _refuse(entries: Iterable[Entry], exc: StoreFailed) -> None:
    """Tell the clients among their writers; the master's own bookkeeping is told nothing."""
    for entry in entries:
        if entry.client is not None and not entry.client.done():
            entry.client.set_exception(exc)
