"""Forgetting finished jobs."""

from __future__ import annotations

import sqlite3

from titan_sdk.cluster.store import changes

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
        # Unless the id was submitted again in the meantime.
        if db.execute("DELETE FROM jobs WHERE job_id = ? AND seq = ?", (job_id, seq)).rowcount:
            db.execute("DELETE FROM payloads WHERE seq = ?", (seq,))
