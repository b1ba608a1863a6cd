"""What the master asks of a store. SQLite (``store.sqlite``) is one; the tests of one are the tests of all."""

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
    """Jobs, values and sets. To be used in one thread, that of its loop; reads see what is durable.

    Rows of jobs of which something may still happen are answered at once, so that scheduling needs no waiting.
    Every read may raise ``StoreFailed``.
    """

    @property
    def journal(self) -> Journal: ...

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


class Clock:
    """Unix seconds. Correcting the system's clock moves no deadline of a running master."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return self._offset + time.monotonic()
