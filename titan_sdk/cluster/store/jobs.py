"""Rows of jobs: what is written at each step of a job's life, and what is read back after a restart."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from titan_sdk.model.status import JobStatus

__all__ = ["HistoryRow", "JobRow", "NewJob", "Service"]

_COLUMNS = (
    "job_id, seq, status, parents, attempts, worker, run, handle, exit_code, reason, service, "
    "submitted_at, due, started_at, ended_at"
)


class Service:
    """Values of ``jobs.service``."""

    NO = 0
    DEPLOYING = 1
    LIVE = 2
    """To be kept running, also after a restart of the master."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as it is submitted. ``parents`` names each parent's own submission, so that a later reuse of the
    parent's id is not mistaken for it.
    """

    job_id: str
    seq: int
    line: str
    parents: tuple[tuple[str, int], ...]
    service: bool
    submitted_at: float
    due: float


@dataclass(frozen=True, slots=True)
class JobRow:
    job_id: str
    seq: int
    status: JobStatus
    parents: tuple[tuple[str, int], ...]
    attempts: int
    worker: str | None
    run: str | None
    handle: str | None
    exit_code: int | None
    reason: str | None
    service: int
    submitted_at: float
    due: float
    started_at: float | None
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class HistoryRow:
    at: float
    event: str
    detail: str


def insert(db: sqlite3.Connection, jobs: Iterable[NewJob]) -> None:
    """Store a submission; an earlier, finished one of the same id gives way (its history stays)."""
    for job in jobs:
        old = db.execute("SELECT seq FROM jobs WHERE job_id = ?", (job.job_id,)).fetchone()
        if old is not None:
            db.execute("DELETE FROM jobs WHERE job_id = ?", (job.job_id,))
            db.execute("DELETE FROM payloads WHERE seq = ?", old)
        db.execute(
            "INSERT INTO jobs (job_id, seq, status, parents, service, submitted_at, due) VALUES (?,?,?,?,?,?,?)",
            (
                job.job_id,
                job.seq,
                JobStatus.PENDING,
                json.dumps(job.parents) if job.parents else "[]",
                int(job.service),
                job.submitted_at,
                job.due,
            ),
        )
        db.execute("INSERT INTO payloads VALUES (?, ?)", (job.seq, job.line))
        add_history(db, job.job_id, job.seq, job.submitted_at, "submitted", "")


def set_running(
    db: sqlite3.Connection, seq: int, worker: str, run: str, handle: str, attempt: int, at: float
) -> None:
    db.execute(
        "UPDATE jobs SET status = CASE WHEN service = 2 THEN status ELSE 'RUNNING' END, "
        "worker = ?, run = ?, handle = ?, attempts = ?, started_at = ? WHERE seq = ?",
        (worker, run, handle, attempt, at, seq),
    )


def set_pending(db: sqlite3.Connection, seq: int, attempts: int, exit_code: int | None) -> None:
    db.execute(
        "UPDATE jobs SET status = 'PENDING', handle = NULL, attempts = ?, exit_code = ? WHERE seq = ?",
        (attempts, exit_code, seq),
    )


def set_ended(
    db: sqlite3.Connection,
    seq: int,
    status: JobStatus,
    exit_code: int | None,
    reason: str | None,
    at: float,
    *,
    gone: bool = False,
) -> None:
    """Unless its run is ``gone``, ``handle`` stays: a cancelled job's process is ended after this is stored."""
    db.execute(
        "UPDATE jobs SET status = ?, exit_code = ?, reason = ?, ended_at = ?, "
        "handle = CASE WHEN ? THEN NULL ELSE handle END WHERE seq = ?",
        (status, exit_code, reason, at, gone, seq),
    )


def set_gone(db: sqlite3.Connection, seq: int, run: str) -> None:
    """No process of that run is left; a later run of the job is another matter."""
    db.execute("UPDATE jobs SET handle = NULL WHERE seq = ? AND run = ?", (seq, run))


def forget_handles(db: sqlite3.Connection) -> None:
    """No process of any job is left."""
    db.execute("UPDATE jobs SET handle = NULL WHERE handle IS NOT NULL")


def set_service(db: sqlite3.Connection, seq: int, state: int) -> None:
    db.execute("UPDATE jobs SET service = ? WHERE seq = ?", (state, seq))


def add_history(db: sqlite3.Connection, job_id: str, seq: int, at: float, event: str, detail: str) -> None:
    db.execute("INSERT INTO history VALUES (?,?,?,?,?)", (job_id, seq, at, event, detail))


# ---------------------------------------------------------------------- reading


def get(db: sqlite3.Connection, job_id: str) -> JobRow | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return None if row is None else _row(row)


def line(db: sqlite3.Connection, seq: int) -> str:
    """The payload line of a stored job."""
    return str(db.execute("SELECT line FROM payloads WHERE seq = ?", (seq,)).fetchone()[0])


def unfinished(db: sqlite3.Connection) -> Iterator[JobRow]:
    """PENDING and RUNNING jobs in the order of submission."""
    query = f"SELECT {_COLUMNS} FROM jobs WHERE status IN ('PENDING', 'RUNNING') ORDER BY seq"
    return (_row(row) for row in db.execute(query).fetchall())


def ended_but_alive(db: sqlite3.Connection) -> list[JobRow]:
    """Ended jobs whose process was not seen to be gone, live services left out."""
    query = (
        f"SELECT {_COLUMNS} FROM jobs WHERE handle IS NOT NULL AND service != 2 "
        "AND status NOT IN ('PENDING', 'RUNNING') ORDER BY seq"
    )
    return [_row(row) for row in db.execute(query).fetchall()]


def live_services(db: sqlite3.Connection) -> list[JobRow]:
    query = f"SELECT {_COLUMNS} FROM jobs WHERE service = 2 ORDER BY seq"
    return [_row(row) for row in db.execute(query).fetchall()]


def history(db: sqlite3.Connection, job_id: str) -> list[HistoryRow]:
    """Everything that happened to an id, over all its submissions."""
    query = "SELECT at, event, detail FROM history WHERE job_id = ? ORDER BY rowid"
    return [HistoryRow(*row) for row in db.execute(query, (job_id,)).fetchall()]


def last_seq(db: sqlite3.Connection) -> int:
    """The highest number given so far: an id that is used again only ever replaces a lower one."""
    newest = db.execute("SELECT max(seq) FROM jobs").fetchone()
    return int(newest[0] or 0)


def _row(row: tuple[object, ...]) -> JobRow:
    job_id, seq, status, parents, *rest = row
    pairs = () if parents == "[]" else tuple((str(p), int(n)) for p, n in json.loads(str(parents)))
    return JobRow(job_id, seq, JobStatus(str(status)), pairs, *rest)  # type: ignore[arg-type]
