"""The rows of jobs in SQLite: written as a whole, read at the master's start and when a finished job is asked for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from operator import attrgetter

from titan_sdk.cluster.store.journal import Batch
from titan_sdk.cluster.store.rows import KEPT_HISTORY, HistoryRow, JobRow, NewJob
from titan_sdk.model.status import JobStatus

__all__ = [
    "COLUMNS",
    "count_finished",
    "finished_before",
    "history",
    "insert",
    "keep",
    "last_seq",
    "line",
    "prepare",
    "read_row",
    "remove",
    "save",
    "settled",
    "unsettled",
]

COLUMNS = (
    "job_id, seq, status, parents, attempts, worker, run, handle, exit_code, reason, service, "
    "submitted_at, due, started_at, ended_at, tag, dag, dag_run"
)
_FORGOTTEN_AT_ONCE = 200
"""The most jobs removed in one transaction: all other requests wait meanwhile."""
_dump = json.JSONEncoder().encode
_LONGEST = 64 * 1024
"""The length of a history above which its older half is removed: a service may be restarted for ever."""
_IS_SETTLED = "status NOT IN ('PENDING', 'RUNNING') AND handle IS NULL AND service != 2"
# The job with the highest number stays: the next master counts from it.
_OLD = f"FROM jobs WHERE {_IS_SETTLED} AND ended_at < ? AND seq < (SELECT max(seq) FROM jobs)"


def prepare(db: sqlite3.Connection) -> None:
    """Define functions and triggers that the statements below need, for this connection only."""
    db.create_function("shortened", 1, _shortened, deterministic=True)
    db.create_function("halved", 1, _halved, deterministic=True)
    # A resubmitted id keeps its row, and gets another number.
    db.execute(
        "CREATE TEMP TRIGGER id_used_again AFTER UPDATE OF seq ON main.jobs WHEN old.seq != new.seq "
        "BEGIN DELETE FROM payloads WHERE seq = old.seq; END"
    )


# ---------------------------------------------------------------------- writing

_INSERT = """
INSERT INTO jobs (seq, job_id, status, parents, service, submitted_at, due, history, tag, dag, dag_run)
VALUES (?, ?, 'PENDING', ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job_id) DO UPDATE SET
    seq = excluded.seq, status = excluded.status, parents = excluded.parents, service = excluded.service,
    submitted_at = excluded.submitted_at, due = excluded.due, history = shortened(history) || excluded.history,
    tag = excluded.tag, dag = excluded.dag, dag_run = excluded.dag_run,
    attempts = 0, worker = NULL, run = NULL, handle = NULL, exit_code = NULL, reason = NULL, started_at = NULL,
    ended_at = NULL
"""
_APPENDED = f"history = CASE WHEN length(history) + length(?1) > {_LONGEST} THEN halved(history || ?1) ELSE history || ?1 END"
_ADD = f"UPDATE jobs SET {_APPENDED} WHERE seq = ?2"
_UPDATE = (
    f"UPDATE jobs SET {_APPENDED}, status = ?3, attempts = ?4, worker = ?5, run = ?6, handle = ?7, exit_code = ?8, "
    "reason = ?9, service = ?10, started_at = ?11, ended_at = ?12 WHERE seq = ?2"
)

_KEEP = f"INSERT OR {{}} INTO jobs ({COLUMNS}, history) VALUES ({'?, ' * len(COLUMNS.split())} '')"
_fields = attrgetter(*COLUMNS.split(", "))


def insert(db: sqlite3.Connection, jobs: Iterable[NewJob]) -> None:
    """Insert submissions with their payloads. A finished job of the same id is replaced; its history stays."""
    for job in jobs:
        parents = json.dumps(job.parents) if job.parents else "[]"
        submitted = _entry(HistoryRow(job.submitted_at, "submitted", ""))
        times, names = (job.submitted_at, job.due), (job.tag, job.dag, job.dag_run)
        db.execute(_INSERT, (job.seq, job.job_id, parents, int(job.service), *times, submitted, *names))
        db.execute("INSERT INTO payloads VALUES (?, ?)", (job.seq, job.line))


def save(db: sqlite3.Connection, batch: Batch, *, inserted: bool = False) -> None:
    """Save the rows of a commit, in its transaction. ``inserted``: the new rows are already there."""
    for seq in batch.changed_before:
        _update(db, seq, batch.rows.get(seq), batch.history.get(seq, ()))
    if not inserted:
        insert(db, batch.inserts)
    for seq in batch.changed_new:
        _update(db, seq, batch.rows.get(seq), batch.history.get(seq, ()))
    for job_id, seq in batch.forgets:
        # Unless the id was submitted again in the meantime.
        if db.execute("DELETE FROM jobs WHERE job_id = ? AND seq = ?", (job_id, seq)).rowcount:
            db.execute("DELETE FROM payloads WHERE seq = ?", (seq,))


def _update(db: sqlite3.Connection, seq: int, row: JobRow | None, added: Iterable[HistoryRow]) -> None:
    """Save a row, or only its new history entries."""
    text = "".join(map(_entry, added))
    if row is None:
        db.execute(_ADD, (text, seq))
        return
    process = row.worker, row.run, row.handle, row.exit_code, row.reason
    times = row.started_at, row.ended_at
    db.execute(_UPDATE, (text, seq, row.status, row.attempts, *process, row.service, *times))


def remove(db: sqlite3.Connection, jobs: Iterable[tuple[str, int]]) -> None:
    """Remove rows from a table without payloads."""
    # Unless the id was submitted again in the meantime.
    db.executemany("DELETE FROM jobs WHERE job_id = ? AND seq = ?", jobs)


def keep(db: sqlite3.Connection, rows: Iterable[JobRow], *, new: bool = True) -> None:
    """Add rows without payloads and histories. ``new``: they replace existing rows of the same id or number."""
    values = [(*_fields(row)[:3], json.dumps(row.parents), *_fields(row)[4:]) for row in rows]
    db.execute("BEGIN")
    db.executemany(_KEEP.format("REPLACE" if new else "IGNORE"), values)
    db.execute("COMMIT")


def _entry(row: HistoryRow) -> str:
    """One line of a history. A separate table would cost two more pages in every commit."""
    return _dump((row.at, row.event, row.detail)) + "\n"


def _shortened(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[-KEPT_HISTORY:])


def _halved(text: str) -> str:
    return text[text.index("\n", len(text) - _LONGEST // 2) + 1 :]


# ---------------------------------------------------------------------- reading


def settled(db: sqlite3.Connection, job_id: str) -> JobRow | None:
    """A settled job. Others are in memory, because a large submission is inserted in several turns."""
    row = db.execute(f"SELECT {COLUMNS} FROM jobs WHERE job_id = ? AND {_IS_SETTLED}", (job_id,)).fetchone()
    return None if row is None else read_row(row)


def unsettled(db: sqlite3.Connection) -> list[JobRow]:
    """All unsettled jobs."""
    return [
        read_row(row)
        for row in db.execute(f"SELECT {COLUMNS} FROM jobs WHERE NOT ({_IS_SETTLED})").fetchall()
    ]


def line(db: sqlite3.Connection, seq: int) -> str:
    return str(db.execute("SELECT line FROM payloads WHERE seq = ?", (seq,)).fetchone()[0])


def history(db: sqlite3.Connection, job_id: str) -> list[HistoryRow]:
    found = db.execute("SELECT history FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return [] if found is None else [HistoryRow(*json.loads(text)) for text in found[0].splitlines()]


def last_seq(db: sqlite3.Connection) -> int:
    """The highest number so far: a reused id only replaces a lower number."""
    newest = db.execute("SELECT max(seq) FROM jobs").fetchone()
    return int(newest[0] or 0)


def count_finished(db: sqlite3.Connection, before: float) -> int:
    """The number of removable jobs that ended before that time."""
    return int(db.execute(f"SELECT count(*) {_OLD}", (before,)).fetchone()[0])


def finished_before(db: sqlite3.Connection, before: float) -> list[tuple[str, int]]:
    """The id and number of some removable jobs, oldest first."""
    found = db.execute(f"SELECT job_id, seq {_OLD} ORDER BY ended_at LIMIT ?", (before, _FORGOTTEN_AT_ONCE))
    return [(str(job_id), int(seq)) for job_id, seq in found.fetchall()]


def read_row(row: tuple[object, ...]) -> JobRow:
    """A row of ``COLUMNS``."""
    job_id, seq, status, parents, *rest = row
    pairs = () if parents == "[]" else tuple((str(p), int(n)) for p, n in json.loads(str(parents)))
    return JobRow(job_id, seq, JobStatus(str(status)), pairs, *rest)  # type: ignore[arg-type]
