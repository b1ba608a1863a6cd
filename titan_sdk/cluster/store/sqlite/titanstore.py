"""TitanStore's values and sets in SQLite, and the last request of each client with its result. Times are Unix seconds, so that they outlive the master; ``now`` is its clock's."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Literal

from titan_sdk.cluster.store import changes
from titan_sdk.wire.exactly_once import RequestId

__all__ = ["carry_out", "count_expired", "get", "get_small", "keys", "members", "prepare"]


def get(db: sqlite3.Connection, key: str, now: float) -> str | None:
    row = db.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
    if row is None or _expired(db, key, now):
        return None
    return str(row[0])


def get_small(db: sqlite3.Connection, key: str, limit: int, now: float) -> str | Literal[False] | None:
    """``get``, but ``False`` for a value above the limit, which is not read."""
    query = "SELECT kv.rowid, at FROM kv LEFT JOIN expiry USING (key) WHERE kv.key = ?"
    row = db.execute(query, (key,)).fetchone()
    if row is None or (row[1] is not None and row[1] <= now):
        return None
    # Only this query has the length without reading the value.
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
    # The two ranges are merged in order. A filter around them would read both tables whole.
    query = f"{found.format('kv', first)} UNION {found.format('members', first)} ORDER BY key LIMIT ?"
    arguments = (bound, prefix + chr(0x10FFFF), now)
    return [str(row[0]) for row in db.execute(query, (*arguments, *arguments, limit)).fetchall()]


def count_expired(db: sqlite3.Connection, now: float) -> int:
    return int(db.execute("SELECT count(*) FROM expiry WHERE at <= ?", (now,)).fetchone()[0])


# ---------------------------------------------------------------------- changes


def _put(db: sqlite3.Connection, change: changes.Put, now: float) -> None:
    # An update in place: a replaced row is removed from two trees and added to both again.
    db.execute(
        "INSERT INTO kv VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (change.key, change.value),
    )
    at = db.execute("DELETE FROM expiry WHERE key = ? RETURNING at", (change.key,)).fetchone()
    if at is not None and at[0] <= now:
        db.execute("DELETE FROM members WHERE key = ?", (change.key,))


def _swap(db: sqlite3.Connection, change: changes.Swap, now: float) -> bool:
    # Read inside the transaction, so that an earlier write of the same turn counts.
    if get(db, change.key, now) != change.expected:
        return False
    if change.value is None:
        db.execute("DELETE FROM kv WHERE key = ?", (change.key,))
    else:
        _put(db, changes.Put(change.key, change.value), now)
    return True


def _add_member(db: sqlite3.Connection, change: changes.AddMember, now: float) -> bool:
    if _expired(db, change.key, now):
        _remove(db, change.key)
    row = (change.key, change.member)
    return db.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", row).rowcount == 1


def _remove_member(db: sqlite3.Connection, change: changes.RemoveMember, now: float) -> bool:
    if _expired(db, change.key, now):
        return False
    row = (change.key, change.member)
    return db.execute("DELETE FROM members WHERE key = ? AND member = ?", row).rowcount == 1


def _delete(db: sqlite3.Connection, change: changes.Delete, now: float) -> bool:
    there = not _expired(db, change.key, now)
    return _remove(db, change.key) and there


def _expire(db: sqlite3.Connection, change: changes.Expire, now: float) -> bool:
    there = db.execute(
        "SELECT 1 FROM kv WHERE key = ? UNION ALL SELECT 1 FROM members WHERE key = ?", (change.key,) * 2
    ).fetchone()
    if there is None or _expired(db, change.key, now):
        return False
    db.execute("INSERT OR REPLACE INTO expiry VALUES (?, ?)", (change.key, now + change.seconds))
    return True


def _sweep(db: sqlite3.Connection, _: changes.Sweep, now: float) -> int:
    expired = db.execute("SELECT key FROM expiry WHERE at <= ?", (now,)).fetchall()
    for (key,) in expired:
        _remove(db, str(key))
    # Also remove channels that were idle for long.
    db.execute("DELETE FROM requests WHERE at < ?", (now - changes.REQUEST_SECONDS,))
    return len(expired)


def _remove(db: sqlite3.Connection, key: str) -> bool:
    removed = db.execute("DELETE FROM kv WHERE key = ?", (key,)).rowcount
    removed += db.execute("DELETE FROM members WHERE key = ?", (key,)).rowcount
    db.execute("DELETE FROM expiry WHERE key = ?", (key,))
    return removed > 0


def _expired(db: sqlite3.Connection, key: str, now: float) -> bool:
    row = db.execute("SELECT at FROM expiry WHERE key = ?", (key,)).fetchone()
    return row is not None and float(row[0]) <= now


_VALUES: dict[type, Callable[[sqlite3.Connection, Any, float], object]] = {
    changes.Put: _put,
    changes.Swap: _swap,
    changes.AddMember: _add_member,
    changes.RemoveMember: _remove_member,
    changes.Delete: _delete,
    changes.Expire: _expire,
    changes.Sweep: _sweep,
}


def carry_out(db: sqlite3.Connection, operations: Iterable[changes.Operation], now: float) -> list[object]:
    """The result of each operation. Called in a transaction."""
    return [_operate(db, change, now) for change in operations]


def _operate(db: sqlite3.Connection, change: changes.Operation, now: float) -> object:
    if isinstance(change, changes.Once | changes.Begin):
        return _request(db, change, now)
    if isinstance(change, changes.Remember):
        _keep(db, change.request, change.reply)
        return None
    return _VALUES[type(change)](db, change, now)


# ---------------------------------------------------------------------- requests that may arrive twice


def _request(db: sqlite3.Connection, change: changes.Once | changes.Begin, now: float) -> object:
    unknown = "" if isinstance(change, changes.Begin) else None
    if not _begin(db, change.request, unknown, now):
        return _find(db, change.request)
    if isinstance(change, changes.Begin):
        return None
    result = _operate(db, change.change, now)
    if result is not None:
        _keep(db, change.request, result)
    return result


def prepare(db: sqlite3.Connection) -> None:
    """Create the table. It is not a part of the file's format: other versions ignore it."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS requests (channel TEXT PRIMARY KEY, number INTEGER NOT NULL, mark TEXT NOT NULL, "
        "result TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID"
    )


def _begin(db: sqlite3.Connection, request: RequestId, result: object, now: float) -> bool:
    """Whether the request is new. If so, it replaces the channel's last one, whose reply the client already has, with that
    result.
    """
    row = (request.channel, request.number, request.mark, _write(result), now)
    return (
        db.execute(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?) ON CONFLICT (channel) DO UPDATE SET number = excluded.number, "
            "mark = excluded.mark, result = excluded.result, at = excluded.at WHERE excluded.number > requests.number",
            row,
        ).rowcount
        == 1
    )


def _find(db: sqlite3.Connection, request: RequestId) -> object:
    """The result of a known request, or ``OUT_OF_DATE``."""
    query = "SELECT number, mark, result FROM requests WHERE channel = ?"
    number, mark, result = db.execute(query, (request.channel,)).fetchone()
    return json.loads(result) if (number, mark) == (request.number, request.mark) else changes.OUT_OF_DATE


def _keep(db: sqlite3.Connection, request: RequestId, result: object) -> None:
    """Store the result of a request that has begun, unless a later one of its channel has begun since."""
    db.execute(
        "UPDATE requests SET result = ? WHERE channel = ? AND number = ? AND mark = ?",
        (_write(result), request.channel, request.number, request.mark),
    )


def _write(result: object) -> str:
    return "null" if result is None else json.dumps(result)
