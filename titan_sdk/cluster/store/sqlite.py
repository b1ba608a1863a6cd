"""The embedded store: one SQLite file, written through the journal, read directly.

Reads see what is durable (or about to be, within the same transaction), never the journal's queue.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from titan_sdk.cluster.store import jobs
from titan_sdk.cluster.store.journal import Journal
from titan_sdk.cluster.store.schema import open_database

__all__ = ["SqliteStore"]


class SqliteStore:
    """Jobs, values and sets. To be used in the thread of the loop it is given.

    Raises:
        TitanError: the file cannot be used; see ``open_database``.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.db = open_database(path)
        self.journal = Journal(self.db, loop)
        self._next_seq = jobs.last_seq(self.db) + 1

    def next_seq(self) -> int:
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def close(self) -> None:
        """Store what is pending and close the file."""
        self.journal.flush()
        self.db.close()

    # ------------------------------------------------------------------ values and sets

    async def put(self, key: str, value: str) -> None:
        """Durable when it returns."""

        def replace(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value))

        await self.journal.write(replace)

    def get(self, key: str) -> str | None:
        row = self.db.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    async def add_member(self, key: str, member: str) -> bool:
        """Whether the member is new; durable when it returns."""

        def insert(db: sqlite3.Connection) -> object:
            return db.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", (key, member)).rowcount == 1

        return bool(await self.journal.write(insert))

    def members(self, key: str) -> list[str]:
        """In the order in which they were added."""
        rows = self.db.execute("SELECT member FROM members WHERE key = ? ORDER BY rowid", (key,))
        return [str(row[0]) for row in rows.fetchall()]
