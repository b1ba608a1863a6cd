"""Files that an older version wrote."""

from __future__ import annotations

import sqlite3

from titan_sdk.cluster.store.sqlite import history

__all__ = ["from_1"]

_KEPT = (
    "seq, job_id, status, parents, attempts, worker, run, handle, exit_code, reason, service, submitted_at, due, "
    "started_at, ended_at"
)


def from_1(db: sqlite3.Connection, jobs: str) -> None:
    """Histories were a table, and the number was not the key of a job's row. All or nothing.

    Args:
        jobs: the SQL that makes the present table of jobs.

    Raises:
        sqlite3.Error: the file is as it was.
    """
    db.create_function("entry", 3, history.entry, deterministic=True)
    db.executescript(
        f"""BEGIN;
        ALTER TABLE jobs RENAME TO jobs_1;
        DROP INDEX jobs_unfinished; DROP INDEX jobs_alive; DROP INDEX jobs_services; DROP INDEX IF EXISTS jobs_ended;
        {jobs}
        INSERT INTO jobs SELECT {_KEPT}, coalesce((
            SELECT group_concat(entry(at, event, detail), '') FROM
            (SELECT * FROM history WHERE history.job_id = jobs_1.job_id ORDER BY history.rowid)
        ), '') FROM jobs_1 ORDER BY seq;
        DROP TABLE jobs_1; DROP TABLE history;
        PRAGMA user_version=2;
        COMMIT;"""
    )
