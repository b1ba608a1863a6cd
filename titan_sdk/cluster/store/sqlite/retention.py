"""Forgetting finished jobs: their rows, and what the SDK has left about them in TitanStore."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

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
    _forget_dags(db, sorted(_forget_jobs(db, change.jobs)))


def _forget_jobs(db: sqlite3.Connection, jobs: Sequence[tuple[str, int]]) -> set[str]:
    """Remove these jobs; the names of the DAGs they belonged to."""
    dags: set[str] = set()
    for job_id, seq in jobs:
        if db.execute("DELETE FROM jobs WHERE job_id = ? AND seq = ?", (job_id, seq)).rowcount == 0:
            continue  # submitted again in the meantime
        db.execute("DELETE FROM payloads WHERE seq = ?", (seq,))
        db.execute("DELETE FROM history WHERE job_id = ?", (job_id,))
        record = leftovers.record_key(job_id)
        row = db.execute("SELECT value FROM kv WHERE key = ?", (record,)).fetchone()
        dags.add(leftovers.dag_of(job_id, None if row is None else row[0]))
        _delete(db, record)
        for table in ("kv", "members", "expiry"):
            db.execute(f"DELETE FROM {table} WHERE key > ? AND key < ?", _range(leftovers.run_prefix(job_id)))
    return dags


def _forget_dags(db: sqlite3.Connection, names: Sequence[str]) -> None:
    """Remove manifests none of whose jobs is known any more."""
    for name in names:
        manifests = db.execute(
            "SELECT key, value FROM kv WHERE key > ? AND key < ?", _range(leftovers.manifest_prefix(name))
        ).fetchall()
        kept = 0
        for key, value in manifests:
            if _is_known(db, value):
                kept += 1
            else:
                _delete(db, str(key))
        if manifests and not kept:
            _delete(db, leftovers.latest_key(name))


def _is_known(db: sqlite3.Connection, manifest: str) -> bool:
    listed = leftovers.listed_jobs(manifest)
    return listed is None or any(
        db.execute("SELECT 1 FROM jobs WHERE job_id = ?", (job_id,)).fetchone() for job_id in listed
    )


def _range(prefix: str) -> tuple[str, str]:
    return prefix, prefix + chr(0x10FFFF)


def _delete(db: sqlite3.Connection, key: str) -> None:
    for table in ("kv", "members", "expiry"):
        db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
