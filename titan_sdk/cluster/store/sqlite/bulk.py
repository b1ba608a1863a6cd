"""Rows of thousands of jobs at once; ``jobs.insert`` in two parts, see ``cluster.bulk``."""

from __future__ import annotations

import json
import sqlite3

from titan_sdk.cluster.store import changes
from titan_sdk.cluster.store.sqlite.jobs import shorten_history
from titan_sdk.model.status import JobStatus

__all__ = ["link_jobs", "remove_orphans", "remove_payloads", "store_payloads"]


def store_payloads(db: sqlite3.Connection, change: changes.StorePayloads) -> None:
    db.executemany("INSERT INTO payloads VALUES (?, ?)", [(row.seq, row.line) for row in change.jobs])


def remove_payloads(db: sqlite3.Connection, change: changes.RemovePayloads) -> None:
    db.executemany("DELETE FROM payloads WHERE seq = ?", [(seq,) for seq in change.numbers])


def link_jobs(db: sqlite3.Connection, change: changes.LinkJobs) -> None:
    rows = change.jobs
    ids = [(row.job_id,) for row in rows]
    if db.execute("SELECT 1 FROM jobs LIMIT 1").fetchone():
        for row in rows:
            if db.execute("SELECT 1 FROM jobs WHERE job_id = ?", (row.job_id,)).fetchone():
                shorten_history(db, row.job_id)
        db.executemany("DELETE FROM payloads WHERE seq = (SELECT seq FROM jobs WHERE job_id = ?)", ids)
        db.executemany("DELETE FROM jobs WHERE job_id = ?", ids)
    db.executemany(
        "INSERT INTO jobs (job_id, seq, status, parents, service, submitted_at, due) VALUES (?,?,?,?,?,?,?)",
        [
            (
                row.job_id,
                row.seq,
                str(JobStatus.PENDING),
                json.dumps(row.parents) if row.parents else "[]",
                int(row.service),
                row.submitted_at,
                row.due,
            )
            for row in rows
        ],
    )
    db.executemany(
        "INSERT INTO history VALUES (?,?,?,'submitted','')",
        [(row.job_id, row.seq, row.submitted_at) for row in rows],
    )


def remove_orphans(db: sqlite3.Connection) -> None:
    """Payloads of a submission during which the master died."""
    db.execute("DELETE FROM payloads WHERE seq NOT IN (SELECT seq FROM jobs)")
