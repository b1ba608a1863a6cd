"""TitanStore's values and sets in SQLite: written through the journal, read directly."""

from __future__ import annotations

import sqlite3
import time

from titan_sdk.cluster.store.journal import Journal

__all__ = ["Values"]


class Values:
    """A key is a value or a set, or both, as on a real master. Times are wall-clock, so that they outlive it."""

    def __init__(self, db: sqlite3.Connection, journal: Journal) -> None:
        self._db = db
        self._journal = journal

    # ------------------------------------------------------------------ values

    async def put(self, key: str, value: str) -> None:
        """Durable when it returns."""
        await self._journal.write(lambda db: _put(db, key, value))

    def get(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        if row is None or self._expired(key):
            return None
        return str(row[0])

    async def swap(self, key: str, expected: str | None, value: str | None) -> bool:
        """Set (or, with ``None``, delete) a value if it is as expected; ``None`` expects it absent. Atomic."""

        def compare_and_set(db: sqlite3.Connection) -> object:
            # Inside the transaction, so that an earlier write of the same turn counts.
            row = db.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
            found = None if row is None or self._expired(key) else row[0]
            if found != expected:
                return False
            if value is None:
                db.execute("DELETE FROM kv WHERE key = ?", (key,))
            else:
                _put(db, key, value)
            return True

        return bool(await self._journal.write(compare_and_set))

    # ------------------------------------------------------------------ sets

    async def add_member(self, key: str, member: str) -> bool:
        """Whether the member is new; durable when it returns."""

        def insert(db: sqlite3.Connection) -> object:
            if self._expired(key):
                _delete(db, key)
            return db.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", (key, member)).rowcount == 1

        return bool(await self._journal.write(insert))

    def members(self, key: str) -> list[str]:
        """In the order in which they were added."""
        if self._expired(key):
            return []
        rows = self._db.execute("SELECT member FROM members WHERE key = ? ORDER BY rowid", (key,))
        return [str(row[0]) for row in rows.fetchall()]

    # ------------------------------------------------------------------ keys

    async def delete(self, key: str) -> bool:
        """Whether there was a value or a set; durable when it returns."""
        return bool(await self._journal.write(lambda db: _delete(db, key)))

    def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """Keys of values and sets that begin with the prefix and come after ``after``, in order; -1: all of them."""
        # The end of the range: no text that begins with the prefix sorts behind prefix + the last character.
        rows = self._db.execute(
            "SELECT key FROM (SELECT key FROM kv UNION SELECT key FROM members) "
            "WHERE key >= ? AND key > ? AND key <= ? ORDER BY key LIMIT ?",
            (prefix, after, prefix + chr(0x10FFFF), limit),
        ).fetchall()
        return [str(row[0]) for row in rows if not self._expired(str(row[0]))]

    async def expire(self, key: str, seconds: float) -> bool:
        """Whether the key is there and will be gone after that time."""
        at = time.time() + seconds

        def mark(db: sqlite3.Connection) -> object:
            there = db.execute(
                "SELECT 1 FROM kv WHERE key = ? UNION ALL SELECT 1 FROM members WHERE key = ?", (key, key)
            ).fetchone()
            if there is None or self._expired(key):
                return False
            db.execute("INSERT OR REPLACE INTO expiry VALUES (?, ?)", (key, at))
            return True

        return bool(await self._journal.write(mark))

    async def sweep(self) -> int:
        """Remove what has expired; how many keys. Reading never shows them, so this only frees room."""
        now = time.time()

        def remove(db: sqlite3.Connection) -> object:
            keys = [
                str(row[0]) for row in db.execute("SELECT key FROM expiry WHERE at <= ?", (now,)).fetchall()
            ]
            for key in keys:
                _delete(db, key)
            return len(keys)

        return int(str(await self._journal.write(remove)))

    def _expired(self, key: str) -> bool:
        row = self._db.execute("SELECT at FROM expiry WHERE key = ?", (key,)).fetchone()
        return row is not None and float(row[0]) <= time.time()


def _put(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value))
    db.execute("DELETE FROM expiry WHERE key = ?", (key,))


def _delete(db: sqlite3.Connection, key: str) -> bool:
    removed = db.execute("DELETE FROM kv WHERE key = ?", (key,)).rowcount
    removed += db.execute("DELETE FROM members WHERE key = ?", (key,)).rowcount
    db.execute("DELETE FROM expiry WHERE key = ?", (key,))
    return removed > 0
