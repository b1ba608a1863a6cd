"""The embedded store: one SQLite file, written through the journal, read directly.

Reads see what is durable (or about to be, within the same transaction), never the journal's queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from titan_sdk.cluster.clock import Clock
from titan_sdk.cluster.store.base import StoreFailed, Unstorable
from titan_sdk.cluster.store.changes import Change
from titan_sdk.cluster.store.journal import Journal
from titan_sdk.cluster.store.rows import HistoryRow, JobRow
from titan_sdk.cluster.store.sqlite import history, jobs, migration, retention, values
from titan_sdk.cluster.store.sqlite.schema import open_database
from titan_sdk.cluster.store.sqlite.transactions import Transactions

__all__ = ["SqliteStore"]


class SqliteStore:
    """Implements ``Store``. To be used in the thread of the loop it is given.

    Raises:
        TitanError: the file cannot be used; see ``open_database``.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self.clock = Clock()
        self.db = open_database(path)
        try:
            migration.take_spool(path.with_name(migration.SPOOL), self.db)
        except BaseException:
            self.db.close()
            raise
        self.journal: Journal[Change] = Journal(Transactions(self.db, self.clock), loop)
        with _reading():
            self._numbers = itertools.count(jobs.last_seq(self.db) + 1)

    def next_seq(self) -> int:
        """See ``Store``."""
        return next(self._numbers)

    # ------------------------------------------------------------------ jobs

    def job(self, job_id: str) -> JobRow | None:
        try:
            return jobs.get(self.db, job_id)
        except UnicodeError:
            return None  # no job can have such an id
        except sqlite3.Error as exc:
            raise StoreFailed(str(exc)) from exc

    def line(self, seq: int) -> str:
        with _reading():
            return jobs.line(self.db, seq)

    def unfinished(self) -> list[JobRow]:
        with _reading():
            return jobs.unfinished(self.db)

    def ended_but_alive(self) -> list[JobRow]:
        with _reading():
            return jobs.ended_but_alive(self.db)

    def live_services(self) -> list[JobRow]:
        with _reading():
            return jobs.live_services(self.db)

    async def history(self, job_id: str) -> list[HistoryRow]:
        with _reading():
            return history.read(self.db, job_id)

    async def finished_before(self, before: float) -> list[tuple[str, int]]:
        with _reading():
            return retention.finished_before(self.db, before)

    async def count_finished(self, before: float) -> int:
        with _reading():
            return retention.count(self.db, before)

    # ------------------------------------------------------------------ values and sets

    def value_at_hand(self, key: str, limit: int) -> str | Literal[False] | None:
        """See ``Store``."""
        with _reading():
            return values.get_small(self.db, key, limit, self.clock.now())

    async def get(self, key: str) -> str | None:
        with _reading():
            return values.get(self.db, key, self.clock.now())

    async def members(self, key: str) -> list[str]:
        with _reading():
            return values.members(self.db, key, self.clock.now())

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        with _reading():
            return values.keys(self.db, prefix, after, limit, self.clock.now())

    async def count_expired(self) -> int:
        with _reading():
            return values.count_expired(self.db, self.clock.now())

    # ------------------------------------------------------------------ itself

    async def compact(self) -> None:
        """See ``Store``; blocks for as long as it takes to write the whole file."""
        with _reading():
            self.db.execute("VACUUM")
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """Never: the folder's lock cannot be lost."""

    def size(self) -> int:
        """Bytes of the database's files."""
        total = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                total += self._path.with_name(self._path.name + suffix).stat().st_size
        return total

    async def close(self) -> None:
        """Store what is pending and close the file."""
        self.journal.flush()
        self.db.close()


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise StoreFailed(str(exc)) from exc
    except UnicodeError as exc:
        raise Unstorable(str(exc)) from exc
