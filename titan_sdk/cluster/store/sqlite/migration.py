"""Files that an older version wrote."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from titan_sdk.cluster.disk import advice
from titan_sdk.cluster.store.rows import HistoryRow, NewJob
from titan_sdk.cluster.store.sqlite import jobs
from titan_sdk.errors import TitanError

__all__ = ["SPOOL", "from_1", "take_spool"]

log = logging.getLogger(__name__)

SPOOL = "submissions.spool"
"""The file beside the database in which an older version kept submissions that it had acknowledged."""

_KEPT = (
    "seq, job_id, status, parents, attempts, worker, run, handle, exit_code, reason, service, submitted_at, due, "
    "started_at, ended_at"
)


def from_1(db: sqlite3.Connection, table: str) -> None:
    """Histories were a table, and the number was not the key of a job's row. All or nothing.

    Args:
        table: the SQL that makes the present table of jobs.

    Raises:
        sqlite3.Error: the file is as it was.
    """
    db.create_function("entry", 3, lambda *row: jobs.entry(HistoryRow(*row)), deterministic=True)
    db.executescript(
        f"""BEGIN;
        ALTER TABLE jobs RENAME TO jobs_1;
        DROP INDEX jobs_unfinished; DROP INDEX jobs_alive; DROP INDEX jobs_services; DROP INDEX IF EXISTS jobs_ended;
        {table}
        INSERT INTO jobs SELECT {_KEPT}, coalesce((
            SELECT group_concat(entry(at, event, detail), '') FROM
            (SELECT * FROM history WHERE history.job_id = jobs_1.job_id ORDER BY history.rowid)
        ), '') FROM jobs_1 ORDER BY seq;
        DROP TABLE jobs_1; DROP TABLE history;
        PRAGMA user_version=2;
        COMMIT;"""
    )


def take_spool(path: Path, db: sqlite3.Connection) -> None:
    """Store what a spool holds that its master was killed before it had stored; then the file is removed.

    Raises:
        TitanError: it cannot be read, stored or removed; it is as it was.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise TitanError(f"cannot read {path}, where an older version kept new submissions: {exc}") from exc
    try:
        db.execute("BEGIN IMMEDIATE")
        for job in _spooled(path, lines):
            # Its row is there, or that of a later submission of its id, which took its place.
            query = "SELECT 1 FROM jobs WHERE job_id = ? AND seq >= ?"
            if db.execute(query, (job.job_id, job.seq)).fetchone() is None:
                jobs.insert(db, (job,))
        db.execute("COMMIT")
        # Only now, and always: a job that is forgotten later must not come back from there.
        path.unlink()
    except sqlite3.IntegrityError as exc:
        db.execute("ROLLBACK")
        raise TitanError(
            f"the submissions in {path} do not fit the database beside it ({exc}): one of the two was restored from a "
            "copy, or used by another version; move the file away to go on without them"
        ) from exc
    except (OSError, sqlite3.Error) as exc:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise TitanError(
            f"cannot take over the submissions in {path}: {exc}; {advice(exc, path.parent)}"
        ) from exc


def _spooled(path: Path, lines: list[bytes]) -> Iterator[NewJob]:
    for number, line in enumerate(lines, 1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("its end is missing")
            found = [
                NewJob(job_id, seq, text, tuple((str(p), int(n)) for p, n in parents), *rest)
                for job_id, seq, text, parents, *rest in json.loads(line)
            ]
        except (ValueError, TypeError, RecursionError):
            # Begun when the master was killed, so nobody was told that it was taken; or lost with the power.
            log.warning("line %d of %s is not whole: left out", number, path)
            continue
        yield from found
