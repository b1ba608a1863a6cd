"""The last request of each client's channel with its result, written in the transaction that carries it out."""

from __future__ import annotations

import json
import sqlite3

from titan_sdk.cluster.store.changes import OUT_OF_DATE, REQUEST_SECONDS
from titan_sdk.wire.once import RequestId

__all__ = ["begin", "find", "forget", "keep", "prepare"]


def prepare(db: sqlite3.Connection) -> None:
    """Make the table. It is no part of the file's format: a version that does not know it leaves it alone."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS requests (channel TEXT PRIMARY KEY, number INTEGER NOT NULL, mark TEXT NOT NULL, "
        "result TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID"
    )


def begin(db: sqlite3.Connection, request: RequestId, result: object, now: float) -> bool:
    """Whether the request is new: then it takes the place of the channel's last one, to which its client has had the
    reply, with that result.
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


def find(db: sqlite3.Connection, request: RequestId) -> object:
    """The result of one that is not new, or ``OUT_OF_DATE``."""
    query = "SELECT number, mark, result FROM requests WHERE channel = ?"
    number, mark, result = db.execute(query, (request.channel,)).fetchone()
    return json.loads(result) if (number, mark) == (request.number, request.mark) else OUT_OF_DATE


def keep(db: sqlite3.Connection, request: RequestId, result: object) -> None:
    """The result of one that has begun, unless a later one of its channel has begun since."""
    db.execute(
        "UPDATE requests SET result = ? WHERE channel = ? AND number = ? AND mark = ?",
        (_write(result), request.channel, request.number, request.mark),
    )


def forget(db: sqlite3.Connection, now: float) -> None:
    """Remove channels that nobody has used for long."""
    db.execute("DELETE FROM requests WHERE at < ?", (now - REQUEST_SECONDS,))


def _write(result: object) -> str:
    return "null" if result is None else json.dumps(result)
