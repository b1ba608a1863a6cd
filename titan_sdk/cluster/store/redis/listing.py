"""A copy of all rows in memory, made for the first list, because Redis itself cannot filter or order them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable

from titan_sdk.cluster.store.journal import Batch
from titan_sdk.cluster.store.redis.rows import decode
from titan_sdk.cluster.store.rows import JobRow
from titan_sdk.cluster.store.sqlite import jobs
from titan_sdk.cluster.store.sqlite.schema import rows_in_memory

__all__ = ["Rows"]

_PAGE = 500


class Rows:
    """The copy: some 300 bytes per job, made only when a list is asked for.

    Args:
        scan: reads the rows of a hash, by id. A row may come twice, and a row that changes meanwhile may be old.
    """

    def __init__(self, scan: Callable[[str], AsyncIterator[tuple[bytes, bytes]]]) -> None:
        self._scan = scan
        self._db: sqlite3.Connection | None = None
        self._lock = asyncio.Lock()
        self._forgotten: set[tuple[str, int]] | None = None
        """The jobs that were removed during the scan."""

    async def ready(self) -> sqlite3.Connection:
        """The complete copy.

        Raises:
            StoreFailed: the rows cannot be read.
        """
        async with self._lock:
            if self._db is None or self._forgotten is not None:
                await self._read()
            assert self._db is not None
            return self._db

    async def _read(self) -> None:
        self.close()
        # From here on each commit is noted. The scanned rows are older than the noted ones.
        self._db, self._forgotten = rows_in_memory(), set()
        for name in ("jobs", "active"):
            found: list[JobRow] = []
            async for job_id, stored in self._scan(name):
                found.append(decode(job_id.decode(), stored))
                if len(found) == _PAGE:
                    self._add(found)
                    found.clear()
            self._add(found)
        self._forgotten = None

    def _add(self, rows: Iterable[JobRow]) -> None:
        assert self._db is not None
        gone = self._forgotten or ()
        jobs.keep(self._db, [row for row in rows if (row.job_id, row.seq) not in gone], new=False)

    def note(self, batch: Batch) -> None:
        """Apply a commit to the copy."""
        if self._db is None:
            return
        if self._forgotten is not None:
            self._forgotten.update(batch.forgets)
        jobs.remove(self._db, batch.forgets)
        saved = {job.seq: None for job in batch.inserts} | dict.fromkeys(batch.rows)
        jobs.keep(self._db, [row for row in map(batch.row, saved) if row is not None])

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
