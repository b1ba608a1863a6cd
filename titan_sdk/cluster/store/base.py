"""What the master asks of a store. SQLite (``store.sqlite``) is one; the tests of one are the tests of all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from titan_sdk.cluster.clock import Clock
from titan_sdk.cluster.store.changes import Change
from titan_sdk.cluster.store.feed import Feed
from titan_sdk.cluster.store.rows import DagRow, HistoryRow, JobRow
from titan_sdk.cluster.store.table import JobTable
from titan_sdk.wire.listing import List

__all__ = ["InDoubt", "Lost", "Store", "StoreFailed", "Unavailable", "Unstorable", "Writes"]


class StoreFailed(Exception):
    """Something could not be written or read; one sentence. The cause is the backend's own exception."""


class Unstorable(StoreFailed):
    """What was to be written or read is no text: half of a surrogate pair, which JSON can write and UTF-8 cannot hold."""


class Unavailable(StoreFailed):
    """Nothing can be written or read at the moment, whatever it is; nothing was done."""


class InDoubt(Unavailable):
    """It was sent, and no reply came: it may have been done."""


class Lost(StoreFailed):
    """This master must not write any more; nothing was done."""


class Writes(Protocol):
    """Group commit. Order is kept: an entry is never durable before one that was written earlier and succeeded.

    ``failing`` is why the last commit did not succeed, where the master's own bookkeeping waits for another try.

    An entry is one or more changes that become durable together; its result is that of the last one. An entry
    without changes is durable when everything before it is.
    """

    @property
    def failing(self) -> StoreFailed | None: ...

    @property
    def feed(self) -> Feed:
        """Which jobs have changed."""

    def write(self, *changes: Change) -> asyncio.Future[object]:
        """A client's write: the future has the result once it is durable, or ``StoreFailed``."""

    def commit(self) -> None:
        """Make what was written durable at once where that takes no waiting; it is begun soon anyway. Outcomes are
        dealt with before this returns, then.
        """

    def record(self, *changes: Change, then: Callable[[], None] | None = None) -> None:
        """The master's own bookkeeping: tried until it succeeds; ``then`` is called once it is durable."""


class Store(Protocol):
    """Jobs, values and sets. To be used in one thread, that of its loop; reads see what is durable.

    Rows of jobs of which something may still happen are answered at once, so that scheduling needs no waiting.
    Every read may raise ``StoreFailed``.
    """

    @property
    def journal(self) -> Writes: ...

    @property
    def clock(self) -> Clock:
        """What times of jobs and manifests are told by."""

    def next_seq(self) -> int:
        """A number that no job has or had. Any thread may ask."""

    # ------------------------------------------------------------------ jobs

    @property
    def table(self) -> JobTable:
        """Jobs of which something may still happen."""

    def job(self, job_id: str) -> JobRow | None:
        """The row of an id, with what is decided and not stored yet; of a job that is at hand."""

    def is_at_hand(self, job_id: str) -> bool:
        """Whether ``job`` tells what there is under an id: always of jobs of which something may still happen."""

    async def bring(self, job_ids: Iterable[str]) -> None:
        """Have these ids at hand, for questions of the same turn. No waiting where all are."""

    def line(self, seq: int) -> str:
        """The payload line of a job that has not ended, or of a live service."""

    async def history(self, job_id: str) -> list[HistoryRow]:
        """Everything that happened to an id, over all its submissions."""

    async def listed(self, request: List) -> list[JobRow]:
        """The jobs of a page, as far as they are stored, and one more where there are more. Of DAGs, the newest job of
        each.
        """

    async def count_listed(self, request: List) -> int:
        """How many there are on all pages."""

    async def dag(self, name: str, run: str) -> list[DagRow]:
        """How the jobs of a DAG's submission stand."""

    async def finished_before(self, before: float) -> list[tuple[str, int]]:
        """Id and number of jobs that ended before that time and can go, oldest first; not more than one transaction
        should forget.
        """

    async def count_finished(self, before: float) -> int:
        """How many such jobs there are in all."""

    # ------------------------------------------------------------------ values and sets

    @property
    def value_at_hand(self) -> Callable[[str, int], str | Literal[False] | None] | None:
        """``get`` without waiting, and without reading values of more bytes than that: they are ``False``. ``None``
        where a value may take a round trip.
        """

    async def get(self, key: str) -> str | None: ...

    async def members(self, key: str) -> list[str]:
        """In the order in which they were added."""

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """Keys of values and sets that begin with the prefix and come after ``after``, in order; -1: all of them."""

    async def count_expired(self) -> int:
        """How many keys ``Sweep`` would remove."""

    # ------------------------------------------------------------------ itself

    async def compact(self) -> None:
        """Give room back that is free, if that takes more than time."""

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """Tell this one, once, why the store is not this master's any more; it writes nothing from then on."""

    def size(self) -> int:
        """Bytes it takes, as far as that is known without waiting."""

    async def close(self) -> None:
        """Store what is pending and let go."""
