"""Rows of jobs: what is written at each step of a job's life, and what is read back after a restart."""

from __future__ import annotations

import json
import sqlite3

from titan_sdk.cluster.store import changes
from titan_sdk.cluster.store.rows import JobRow, NewJob
from titan_sdk.cluster.store.sqlite import history
from titan_sdk.model.status import JobStatus

_COLUMNS = (
    "job_id, seq, status, parents, attempts, worker, run, handle, exit_code, reason, service, "
    "submitted_at, due, started_at, ended_at"
)


def insert(db: sqlite3.Connection, change: changes.InsertJobs) -> None:
    for job in change.jobs:
        insert_row(db, job)
        db.execute("INSERT INTO payloads VALUES (?, ?)", (job.seq, job.line))


def insert_row(db: sqlite3.Connection, job: NewJob) -> None:
    """The row of a submission. An earlier one of the same id gives way, and leaves its history."""
    try:
        db.execute(_INSERT, _values(job, ""))
    except sqlite3.IntegrityError:
        found = db.execute("SELECT seq, history FROM jobs WHERE job_id = ?", (job.job_id,)).fetchone()
        if found is None:
            raise  # it was not about the id
        seq, earlier = found
        db.execute("DELETE FROM jobs WHERE seq = ?", (seq,))
        db.execute("DELETE FROM payloads WHERE seq = ?", (seq,))
        db.execute(_INSERT, _values(job, history.shortened(earlier)))


_INSERT = "INSERT INTO jobs (seq, job_id, status, parents, service, submitted_at, due, history) VALUES (?,?,?,?,?,?,?,?)"


def _values(job: NewJob, earlier: str) -> tuple[object, ...]:
    return (
        job.seq,
        job.job_id,
        JobStatus.PENDING,
        json.dumps(job.parents) if job.parents else "[]",
        int(job.service),
        job.submitted_at,
        job.due,
        earlier + history.entry(job.submitted_at, "submitted", ""),
    )


def set_running(db: sqlite3.Connection, change: changes.SetRunning) -> None:
    db.execute(
        "UPDATE jobs SET status = CASE WHEN service = 2 THEN status ELSE 'RUNNING' END, "
        "worker = ?, run = ?, handle = ?, attempts = ?, started_at = ? WHERE seq = ?",
        (change.worker, change.run, change.handle, change.attempt, change.at, change.seq),
    )


def set_placed(db: sqlite3.Connection, change: changes.SetPlaced) -> None:
    db.execute(
        "UPDATE jobs SET worker = ?, started_at = ? WHERE seq = ?", (change.worker, change.at, change.seq)
    )


def set_pending(db: sqlite3.Connection, change: changes.SetPending) -> None:
    db.execute(
        "UPDATE jobs SET status = 'PENDING', handle = NULL, attempts = ?, exit_code = ? WHERE seq = ?",
        (change.attempts, change.exit_code, change.seq),
    )


def set_ended(db: sqlite3.Connection, change: changes.SetEnded) -> None:
    db.execute(
        "UPDATE jobs SET status = ?, exit_code = ?, reason = ?, ended_at = ?, "
        "handle = CASE WHEN ? THEN NULL ELSE handle END WHERE seq = ?",
        (change.status, change.exit_code, change.reason, change.at, change.gone, change.seq),
    )


def set_gone(db: sqlite3.Connection, change: changes.SetGone) -> None:
    db.execute("UPDATE jobs SET handle = NULL WHERE seq = ? AND run = ?", (change.seq, change.run))


def forget_handles(db: sqlite3.Connection, _: changes.ForgetHandles) -> None:
    db.execute("UPDATE jobs SET handle = NULL WHERE handle IS NOT NULL")


def set_service(db: sqlite3.Connection, change: changes.SetService) -> None:
    db.execute("UPDATE jobs SET service = ? WHERE seq = ?", (change.state, change.seq))


# ---------------------------------------------------------------------- reading


def get(db: sqlite3.Connection, job_id: str) -> JobRow | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return None if row is None else _row(row)


def line(db: sqlite3.Connection, seq: int) -> str:
    return str(db.execute("SELECT line FROM payloads WHERE seq = ?", (seq,)).fetchone()[0])


def unfinished(db: sqlite3.Connection) -> list[JobRow]:
    query = f"SELECT {_COLUMNS} FROM jobs WHERE status IN ('PENDING', 'RUNNING') ORDER BY seq"
    return [_row(row) for row in db.execute(query).fetchall()]


def ended_but_alive(db: sqlite3.Connection) -> list[JobRow]:
    query = (
        f"SELECT {_COLUMNS} FROM jobs WHERE handle IS NOT NULL AND service != 2 "
        "AND status NOT IN ('PENDING', 'RUNNING') ORDER BY seq"
    )
    return [_row(row) for row in db.execute(query).fetchall()]


def live_services(db: sqlite3.Connection) -> list[JobRow]:
    query = f"SELECT {_COLUMNS} FROM jobs WHERE service = 2 ORDER BY seq"
    return [_row(row) for row in db.execute(query).fetchall()]


def last_seq(db: sqlite3.Connection) -> int:
    """The highest number given so far: an id that is used again only ever replaces a lower one."""
    newest = db.execute("SELECT max(seq) FROM jobs").fetchone()
    return int(newest[0] or 0)


def _row(row: tuple[object, ...]) -> JobRow:
    job_id, seq, status, parents, *rest = row
    pairs = () if parents == "[]" else tuple((str(p), int(n)) for p, n in json.loads(str(parents)))
    return JobRow(job_id, seq, JobStatus(str(status)), pairs, *rest)  # type: ignore[arg-type]
