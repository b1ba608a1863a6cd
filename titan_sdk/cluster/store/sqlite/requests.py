"""The last request of each client's channel with its result, written in the transaction that carries it out."""

from __future__ import annotations

import json
import sqlite3

from titan_sdk.cluster.store.changes import OUT_OF_DATE, REQUEST_SECONDS
from titan_sdk.wire.once import RequestId

__all__ = ["find", "forget", "keep", "prepare"]


def prepare(db: sqlite3.Connection) -> None:
    """Make the table. It is no part of the file's format: a version that does not know it leaves it alone."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS requests (channel TEXT PRIMARY KEY, number INTEGER NOT NULL, mark TEXT NOT NULL, "
        "result TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID"
    )


def find(db: sqlite3.Connection, request: RequestId) -> list[object] | str | None:
    """The result, in a list, where the request was carried out; ``OUT_OF_DATE``; nothing where it is new."""
    row = db.execute(
        "SELECT number, mark, result FROM requests WHERE channel = ?", (request.channel,)
    ).fetchone()
    if row is None or row[0] < request.number:
        return None
    return [json.loads(row[2])] if row[:2] == (request.number, request.mark) else OUT_OF_DATE


def keep(db: sqlite3.Connection, request: RequestId, result: object, now: float) -> None:
    """It takes the place of the channel's last one, to which its client has had the reply."""
    row = (request.channel, request.number, request.mark, json.dumps(result), now)
    db.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, ?)", row)


def forget(db: sqlite3.Connection, now: float) -> None:
    """Remove channels that nobody has used for long."""
    db.execute("DELETE FROM requests WHERE at < ?", (now - REQUEST_SECONDS,))
