"""Rows of thousands of jobs at once; ``jobs.insert`` in two parts, see ``cluster.bulk``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from titan_sdk.cluster.store.jobs import NewJob
from titan_sdk.cluster.store.journal import Operation
from titan_sdk.model.status import JobStatus

__all__ = ["insert_jobs", "payload_remover", "payload_writer", "remove_orphans"]


def payload_writer(rows: Sequence[NewJob]) -> Operation:
    """Store payloads to which nothing refers yet."""
    return lambda db: db.executemany(
        "INSERT INTO payloads VALUES (?, ?)", [(row.seq, row.line) for row in rows]
    )


def payload_remover(numbers: Sequence[int]) -> Operation:
    """Undo that."""
    return lambda db: db.executemany("DELETE FROM payloads WHERE seq = ?", [(seq,) for seq in numbers])


def insert_jobs(db: sqlite3.Connection, rows: Sequence[NewJob]) -> None:
    """The jobs of payloads that are stored; earlier, finished ones of the same ids give way."""
    ids = [(row.job_id,) for row in rows]
    if db.execute("SELECT 1 FROM jobs LIMIT 1").fetchone():
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
