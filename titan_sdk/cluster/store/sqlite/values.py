"""TitanStore's values and sets in SQLite. Times are Unix seconds, so that they outlive the master; ``now`` is its clock's."""

from __future__ import annotations

import sqlite3
from typing import Literal

from titan_sdk.cluster.store import changes

__all__ = [
    "add_member",
    "count_expired",
    "delete",
    "expire",
    "get",
    "get_small",
    "keys",
    "members",
    "put",
    "remove_member",
    "swap",
    "sweep",
]


def get(db: sqlite3.Connection, key: str, now: float) -> str | None:
    row = db.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
    if row is None or _expired(db, key, now):
        return None
    return str(row[0])


def get_small(db: sqlite3.Connection, key: str, limit: int, now: float) -> str | Literal[False] | None:
    """As ``get``, but ``False``, unread, if it has more bytes than that."""
    query = "SELECT kv.rowid, at FROM kv LEFT JOIN expiry USING (key) WHERE kv.key = ?"
    row = db.execute(query, (key,)).fetchone()
    if row is None or (row[1] is not None and row[1] <= now):
        return None
    # Only so is a length told without reading the value.
    with db.blobopen("kv", "value", row[0], readonly=True) as value:
        return value.read().decode() if len(value) <= limit else False


def members(db: sqlite3.Connection, key: str, now: float) -> list[str]:
    if _expired(db, key, now):
        return []
    rows = db.execute("SELECT member FROM members WHERE key = ? ORDER BY rowid", (key,))
    return [str(row[0]) for row in rows.fetchall()]


def keys(db: sqlite3.Connection, prefix: str, after: str, limit: int, now: float) -> list[str]:
    first, bound = (">", after) if after and after >= prefix else (">=", prefix)
    # The end of the range: no text that begins with the prefix sorts behind prefix + the last character.
    found = (
        "SELECT key FROM {0} WHERE key {1} ? AND key <= ? "
        "AND NOT EXISTS (SELECT 1 FROM expiry WHERE expiry.key = {0}.key AND at <= ?)"
    )
    # Ranges of both, merged in order: around them it would read both tables whole.
    query = f"{found.format('kv', first)} UNION {found.format('members', first)} ORDER BY key LIMIT ?"
    arguments = (bound, prefix + chr(0x10FFFF), now)
    return [str(row[0]) for row in db.execute(query, (*arguments, *arguments, limit)).fetchall()]


def count_expired(db: sqlite3.Connection, now: float) -> int:
    return int(db.execute("SELECT count(*) FROM expiry WHERE at <= ?", (now,)).fetchone()[0])


# ---------------------------------------------------------------------- changes


def put(db: sqlite3.Connection, change: changes.Put, now: float) -> None:
    # In its place: to replace a row is to remove it from two trees and to put it into both again.
    db.execute(
        "INSERT INTO kv VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (change.key, change.value),
    )
    at = db.execute("DELETE FROM expiry WHERE key = ? RETURNING at", (change.key,)).fetchone()
    if at is not None and at[0] <= now:
        db.execute("DELETE FROM members WHERE key = ?", (change.key,))


def swap(db: sqlite3.Connection, change: changes.Swap, now: float) -> bool:
    # Inside the transaction, so that an earlier write of the same turn counts.
    if get(db, change.key, now) != change.expected:
        return False
    if change.value is None:
        db.execute("DELETE FROM kv WHERE key = ?", (change.key,))
    else:
        put(db, changes.Put(change.key, change.value), now)
    return True


def add_member(db: sqlite3.Connection, change: changes.AddMember, now: float) -> bool:
    if _expired(db, change.key, now):
        _remove(db, change.key)
    row = (change.key, change.member)
    return db.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", row).rowcount == 1


def remove_member(db: sqlite3.Connection, change: changes.RemoveMember, now: float) -> bool:
    if _expired(db, change.key, now):
        return False
    row = (change.key, change.member)
    return db.execute("DELETE FROM members WHERE key = ? AND member = ?", row).rowcount == 1


def delete(db: sqlite3.Connection, change: changes.Delete, now: float) -> bool:
    there = not _expired(db, change.key, now)
    return _remove(db, change.key) and there


def expire(db: sqlite3.Connection, change: changes.Expire, now: float) -> bool:
    there = db.execute(
        "SELECT 1 FROM kv WHERE key = ? UNION ALL SELECT 1 FROM members WHERE key = ?", (change.key,) * 2
    ).fetchone()
    if there is None or _expired(db, change.key, now):
        return False
    db.execute("INSERT OR REPLACE INTO expiry VALUES (?, ?)", (change.key, now + change.seconds))
    return True


def sweep(db: sqlite3.Connection, _: changes.Sweep, now: float) -> int:
    expired = db.execute("SELECT key FROM expiry WHERE at <= ?", (now,)).fetchall()
    for (key,) in expired:
        _remove(db, str(key))
    return len(expired)


def _remove(db: sqlite3.Connection, key: str) -> bool:
    removed = db.execute("DELETE FROM kv WHERE key = ?", (key,)).rowcount
    removed += db.execute("DELETE FROM members WHERE key = ?", (key,)).rowcount
    db.execute("DELETE FROM expiry WHERE key = ?", (key,))
    return removed > 0


def _expired(db: sqlite3.Connection, key: str, now: float) -> bool:
    row = db.execute("SELECT at FROM expiry WHERE key = ?", (key,)).fetchone()
    return row is not None and float(row[0]) <= now
