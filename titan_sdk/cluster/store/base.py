"""The protocol of a store. SQLite (``store.sqlite``) and Redis implement it, and share their tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from titan_sdk.cluster.store.job_table import JobTable
from titan_sdk.cluster.store.journal import Journal
from titan_sdk.cluster.store.rows import DagRow, HistoryRow, JobRow
from titan_sdk.wire.listing import List

__all__ = ["Clock", "Store"]


class Store(Protocol):
    """Jobs, values and sets. Used in the thread of its loop only. Reads see durable state.

    Rows of unsettled jobs are in memory, so scheduling never waits. Every read may raise ``StoreFailed``.
    """

    @property
    def journal(self) -> Journal: ...

    @property
    def clock(self) -> Clock:
        """The clock of the times in jobs and manifests."""

    def next_seq(self) -> int:
        """A number that no job has or had. Any thread may call this."""

    # ------------------------------------------------------------------ jobs

    @property
    def table(self) -> JobTable:
        """The unsettled jobs, in memory."""

    def job(self, job_id: str) -> JobRow | None:
        """The row of an id that is at hand, including changes that are not stored yet."""

    def is_at_hand(self, job_id: str) -> bool:
        """Whether ``job`` knows the id without reading the store. It always knows unsettled jobs."""

    async def bring(self, job_ids: Iterable[str]) -> None:
        """Load these ids, for questions in the same turn of the loop. Does not wait if all are at hand."""

    def line(self, seq: int) -> str:
        """The payload line of a job that has not ended, or of a live service."""

    async def history(self, job_id: str) -> list[HistoryRow]:
        """The history of an id, over all its submissions."""

    async def listed(self, request: List) -> list[JobRow]:
        """The stored jobs of a page, and one more if there are more. For DAGs, the newest job of each."""

    async def count_listed(self, request: List) -> int:
        """The number of jobs on all pages."""

    async def dag(self, name: str, run: str) -> list[DagRow]:
        """The states of the jobs of a DAG's submission."""

    async def finished_before(self, before: float) -> list[tuple[str, int]]:
        """Id and number of removable jobs that ended before that time, oldest first: as many as one transaction should
        remove.
        """

    async def count_finished(self, before: float) -> int:
        """The number of all such jobs."""

    # ------------------------------------------------------------------ values and sets

    @property
    def value_at_hand(self) -> Callable[[str, int], str | Literal[False] | None] | None:
        """A ``get`` without waiting, which returns ``False`` for a value above the given size. ``None`` if a value may
        need a round trip.
        """

    async def get(self, key: str) -> str | None: ...

    async def members(self, key: str) -> list[str]:
        """The members, in the order in which they were added."""

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """The keys of values and sets with the prefix that follow ``after``, in order. ``limit`` -1: all of them."""

    async def count_expired(self) -> int:
        """The number of keys that ``Sweep`` would remove."""

    # ------------------------------------------------------------------ itself

    async def compact(self) -> None:
        """Give free room back to the disk, if the store does not do that itself."""

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """Call the listener, once, with the reason why the store no longer belongs to this master. It then writes nothing."""

    def size(self) -> int:
        """Its size in bytes, as far as it is known without waiting."""

    async def close(self) -> None:
        """Store pending changes, and close."""


class Clock:
    """Unix seconds. A correction of the system's clock changes no deadline of a running master."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return self._offset + time.monotonic()
