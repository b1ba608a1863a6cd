"""Forgetting finished jobs: their rows, and what the SDK has left about them in TitanStore."""

from __future__ import annotations

import sqlite3

from titan_sdk.cluster.store import changes, leftovers

__all__ = ["BATCH", "count", "finished_before", "forget"]

BATCH = 200
"""Jobs forgotten in one transaction: everybody else waits meanwhile."""

# A service that runs, and a run whose processes may be alive, stay; so does the newest number, from which the next
# master counts on.
_OLD = (
    "FROM jobs WHERE status NOT IN ('PENDING', 'RUNNING') AND ended_at < ? AND handle IS NULL AND service != 2 "
    "AND seq < (SELECT max(seq) FROM jobs)"
)


def count(db: sqlite3.Connection, before: float) -> int:
    """How many jobs ended before that time and can go."""
    return int(db.execute(f"SELECT count(*) {_OLD}", (before,)).fetchone()[0])


def finished_before(db: sqlite3.Connection, before: float, limit: int = BATCH) -> list[tuple[str, int]]:
    """Id and number of jobs that can go, oldest first."""
    rows = db.execute(f"SELECT job_id, seq {_OLD} ORDER BY ended_at LIMIT ?", (before, limit)).fetchall()
    return [(str(job_id), int(seq)) for job_id, seq in rows]


def forget(db: sqlite3.Connection, change: changes.ForgetJobs) -> None:
    for job_id, seq in change.jobs:
        row = db.execute("SELECT ended_at FROM jobs WHERE job_id = ? AND seq = ?", (job_id, seq)).fetchone()
        if row is None:
            continue  # submitted again in the meantime
        db.execute("DELETE FROM jobs WHERE seq = ?", (seq,))
        db.execute("DELETE FROM payloads WHERE seq = ?", (seq,))
        _forget_values(db, job_id, row[0])


def _forget_values(db: sqlite3.Connection, job_id: str, ended_at: float) -> None:
    record = leftovers.record_key(job_id)
    found = db.execute("SELECT value FROM kv WHERE key = ?", (record,)).fetchone()
    if found is not None and leftovers.is_of_later_submission(found[0], ended_at):
        return  # the id is just being submitted again; what is left goes with its manifest
    _delete(db, record)
    for table in ("kv", "members", "expiry"):
        db.execute(f"DELETE FROM {table} WHERE key > ? AND key < ?", _range(leftovers.run_prefix(job_id)))


def _range(prefix: str) -> tuple[str, str]:
    return prefix, prefix + chr(0x10FFFF)


def _delete(db: sqlite3.Connection, key: str) -> None:
    for table in ("kv", "members", "expiry"):
        db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
