"""The embedded store: one SQLite file, written through the journal, read directly."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeVar, TypeVarTuple, Unpack

from titan_sdk.cluster.store.base import Clock
from titan_sdk.cluster.store.changes import StoreFailed, Unstorable
from titan_sdk.cluster.store.job_table import JobTable
from titan_sdk.cluster.store.journal import Batch, Journal
from titan_sdk.cluster.store.rows import DagRow, HistoryRow, JobRow
from titan_sdk.cluster.store.sqlite import jobs, listing, titanstore
from titan_sdk.cluster.store.sqlite.schema import open_database
from titan_sdk.wire.listing import List

__all__ = ["SqliteStore"]

T = TypeVar("T")
Args = TypeVarTuple("Args")

_SLICE = 200
"""The number of jobs of a submission that are inserted in one turn."""
_CLOSE_SECONDS = 30.0


class SqliteStore:
    """Implements ``Store`` and ``Backend``. Used in the thread of the given loop only.

    Args:
        synced: a commit is on the disk, not only in the operating system's hands.

    Raises:
        TitanError: the file cannot be used; see ``open_database``.
    """

    waits = False

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop, *, synced: bool = False) -> None:
        self.gathers = synced
        self._path = path
        self.clock = Clock()
        self.table = JobTable()
        self._giving_way: dict[str, JobRow] = {}
        """The settled jobs whose ids are being submitted again."""
        self._arriving: int | None = None
        """Rows from this number on are not committed yet."""
        self.db = open_database(path, synced=synced)
        try:
            with _said():
                for row in jobs.unsettled(self.db):
                    self.table.keep(row)
                self._numbers = itertools.count(jobs.last_seq(self.db) + 1)
        except BaseException:
            self.db.close()
            raise
        self.journal = Journal(self, self.table, loop)

    def next_seq(self) -> int:
        return next(self._numbers)

    # ------------------------------------------------------------------ writing

    def commit(self, batch: Batch) -> list[object] | Awaitable[list[object]]:
        if len(batch.inserts) > _SLICE:
            return self._commit_in_slices(batch)
        with self._transaction():
            jobs.save(self.db, batch)
            return (
                titanstore.carry_out(self.db, batch.operations, self.clock.now()) if batch.operations else []
            )

    async def _commit_in_slices(self, batch: Batch) -> list[object]:
        """One transaction over several turns. Meanwhile questions are answered from the state before."""
        self._arriving = min(job.seq for job in batch.inserts)
        try:
            with self._transaction():
                for start in range(0, len(batch.inserts), _SLICE):
                    new = batch.inserts[start : start + _SLICE]
                    earlier = (jobs.settled(self.db, job.job_id) for job in new)
                    self._giving_way |= {row.job_id: row for row in earlier if row is not None}
                    jobs.insert(self.db, new)
                    await asyncio.sleep(0)
                jobs.save(self.db, batch, inserted=True)
                return titanstore.carry_out(self.db, batch.operations, self.clock.now())
        finally:
            self._giving_way.clear()
            self._arriving = None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """A transaction: done as a whole or not at all."""
        db = self.db
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except (sqlite3.Error, UnicodeError) as exc:
            raise _failure(exc) from exc

    # ------------------------------------------------------------------ jobs

    def job(self, job_id: str) -> JobRow | None:
        row = self.table.get(job_id) or self._giving_way.get(job_id)
        if row is not None:
            return row
        try:
            return jobs.settled(self.db, job_id)
        except UnicodeError:
            return None  # no job can have such an id
        except sqlite3.Error as exc:
            raise StoreFailed(str(exc)) from exc

    def is_at_hand(self, job_id: str) -> bool:  # noqa: ARG002 - every row is
        return True

    async def bring(self, job_ids: Iterable[str]) -> None:
        """Nothing to do: every row can be read at once."""

    def line(self, seq: int) -> str:
        return self._read(jobs.line, seq)

    async def history(self, job_id: str) -> list[HistoryRow]:
        return self._read(jobs.history, job_id)

    async def listed(self, request: List) -> list[JobRow]:
        with _said():
            return await listing.page(self.db, request, self._arriving)

    async def count_listed(self, request: List) -> int:
        with _said():
            return await listing.count(self.db, request, self._arriving)

    async def dag(self, name: str, run: str) -> list[DagRow]:
        return self._read(listing.dag, name, run)

    async def finished_before(self, before: float) -> list[tuple[str, int]]:
        return self._read(jobs.finished_before, before)

    async def count_finished(self, before: float) -> int:
        return self._read(jobs.count_finished, before)

    def _read(self, query: Callable[[sqlite3.Connection, Unpack[Args]], T], *args: *Args) -> T:
        try:
            return query(self.db, *args)
        except (sqlite3.Error, UnicodeError) as exc:
            raise _failure(exc) from exc

    # ------------------------------------------------------------------ values and sets

    def value_at_hand(self, key: str, limit: int) -> str | Literal[False] | None:
        return self._read(titanstore.get_small, key, limit, self.clock.now())

    async def get(self, key: str) -> str | None:
        return self._read(titanstore.get, key, self.clock.now())

    async def members(self, key: str) -> list[str]:
        return self._read(titanstore.members, key, self.clock.now())

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        return self._read(titanstore.keys, prefix, after, limit, self.clock.now())

    async def count_expired(self) -> int:
        return self._read(titanstore.count_expired, self.clock.now())

    # ------------------------------------------------------------------ itself

    async def compact(self) -> None:
        """Shrink the file. Blocks while the whole file is written."""
        with _said():
            self.db.execute("VACUUM")
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """Nothing to do: the folder's lock cannot be lost."""

    def size(self) -> int:
        """Bytes of the database's files."""
        total = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                total += self._path.with_name(self._path.name + suffix).stat().st_size
        return total

    async def close(self) -> None:
        """Store pending changes, and close the file."""
        await self.journal.close(_CLOSE_SECONDS)
        self.db.close()


@contextlib.contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeError) as exc:
        raise _failure(exc) from exc


def _failure(exc: Exception) -> StoreFailed:
    return StoreFailed(str(exc)) if isinstance(exc, sqlite3.Error) else Unstorable(str(exc))
