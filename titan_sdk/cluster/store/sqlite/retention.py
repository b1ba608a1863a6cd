"""Forgetting finished jobs: their rows, and what the SDK has left about them in TitanStore."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from titan_sdk.cluster.store import changes
from titan_sdk.wire.store_text import encode_key

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
        record = encode_key(f"titan:job:{job_id}")
        row = db.execute("SELECT value FROM kv WHERE key = ?", (record,)).fetchone()
        dag = _field(row, "dag")
        if isinstance(dag, str):
            dags.add(dag)
        _delete(db, record)
        _delete_prefix(db, encode_key(f"titan:run:{job_id}:"))
    return dags


def _forget_dags(db: sqlite3.Connection, names: Sequence[str]) -> None:
    """Remove manifests none of whose jobs is known any more."""
    for name in names:
        latest = encode_key("titan:dag:" + name.replace("%", "%25").replace(":", "%3A"))
        manifests = db.execute(
            "SELECT key, value FROM kv WHERE key > ? AND key < ?", _range(latest + ":")
        ).fetchall()
        kept = 0
        for key, value in manifests:
            if _is_known(db, (value,)):
                kept += 1
            else:
                _delete(db, str(key))
        if not kept:
            _delete(db, latest)


def _is_known(db: sqlite3.Connection, row: tuple[str]) -> bool:
    listed = _field(row, "jobs")
    if not isinstance(listed, list):
        return True  # not a manifest as we write it: whoever wrote it may want it
    ids = [entry.get("id") if isinstance(entry, dict) else entry for entry in listed]
    return any(
        db.execute("SELECT 1 FROM jobs WHERE job_id IN (?, ?)", (job_id, f"DAG-{job_id}")).fetchone()
        for job_id in ids
        if isinstance(job_id, str)
    )


def _field(row: tuple[str] | None, name: str) -> object:
    try:
        return json.loads(row[0]).get(name) if row is not None else None
    except (ValueError, AttributeError):
        return None


def _range(prefix: str) -> tuple[str, str]:
    # An encoded key ends with a quote, which is not a part of the prefix.
    prefix = prefix.removesuffix('"')
    return prefix, prefix + chr(0x10FFFF)


def _delete(db: sqlite3.Connection, key: str) -> None:
    for table in ("kv", "members", "expiry"):
        db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))


def _delete_prefix(db: sqlite3.Connection, prefix: str) -> None:
    for table in ("kv", "members", "expiry"):
        db.execute(f"DELETE FROM {table} WHERE key > ? AND key < ?", _range(prefix))
