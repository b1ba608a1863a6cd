"""When manifests were written, so that old ones are found without reading all; ``cluster.manifests`` looks at them."""

from __future__ import annotations

import sqlite3

from titan_sdk.cluster.store import changes, leftovers

__all__ = ["before", "look_again", "prepare", "written"]

_BATCH = 200


def prepare(db: sqlite3.Connection, now: float) -> None:
    """Make the index; what is not in it, as an older version wrote it, is taken for new."""
    db.execute("CREATE TABLE IF NOT EXISTS manifests (key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID")
    db.execute("CREATE INDEX IF NOT EXISTS manifests_due ON manifests(at)")
    for prefix in leftovers.MANIFESTS:
        db.execute(
            "INSERT OR IGNORE INTO manifests SELECT key, ? FROM kv WHERE key > ? AND key < ?",
            (now, prefix, prefix + chr(0x10FFFF)),
        )


def before(db: sqlite3.Connection, time: float) -> list[tuple[str, float]]:
    query = "SELECT key, at FROM manifests WHERE at < ? ORDER BY at LIMIT ?"
    return [(str(key), float(at)) for key, at in db.execute(query, (time, _BATCH)).fetchall()]


def written(db: sqlite3.Connection, change: changes.Put | changes.Swap, result: object, now: float) -> None:
    """Note when, unless that change has written nothing."""
    if isinstance(change, changes.Put) or (result and change.value is not None):
        db.execute("INSERT OR REPLACE INTO manifests VALUES (?, ?)", (change.key, now))


def look_again(db: sqlite3.Connection, change: changes.LookAgain) -> None:
    if change.at is None:
        db.execute("DELETE FROM manifests WHERE key = ? AND at < ?", (change.key, change.before))
    else:
        db.execute(
            "UPDATE manifests SET at = ? WHERE key = ? AND at < ?", (change.at, change.key, change.before)
        )
