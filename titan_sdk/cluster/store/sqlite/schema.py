"""The SQLite file: its tables, and opening it safely.

Durability: WAL with ``synchronous=NORMAL``. A commit is in the operating system's hands before anything is
acknowledged, so it survives ``kill -9`` of the master at any instant; after a power cut what it had
not written yet may be missing (usually half a minute), never half of a transaction. With ``synchronous=FULL`` each
commit waits until the disk has the log (SQLite syncs the folder, too, when it has made the log).
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from titan_sdk.cluster import sdk_keys
from titan_sdk.cluster.disk import advice, sync
from titan_sdk.cluster.store.sqlite import jobs, titanstore
from titan_sdk.errors import TitanError
from titan_sdk.model.rules import full_id
from titan_sdk.wire.jobs import JobLine

__all__ = ["SCHEMA_VERSION", "open_database", "rows_in_memory"]

SCHEMA_VERSION = 2
_SPOOL = "submissions.spool"
"""The file beside the database in which an older version kept submissions."""
_MAX_LOG = 64 * 1024 * 1024
_CHECKPOINT_PAGES = 4000
"""Pages (of 4 KiB) in the log after which they go into the file. The master waits for the disk then; SQLite's own 1,000
are some hundred small jobs.
"""

# A commit costs what its pages cost, so a job's life touches few of them: the number is the key by which rows are
# laid down one after the other, the history is a part of the row, and what only a starting master asks for has no
# index. Payloads live apart: an UPDATE rewrites a row as a whole, and a payload may be megabytes.
# `handle` is the engine's word for a process that may be alive; NULL once it is known to be gone.
# `history`: one line of JSON per entry, oldest first.
_TABLES = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    parents TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    run TEXT,
    handle TEXT,
    exit_code INTEGER,
    reason TEXT,
    service INTEGER NOT NULL DEFAULT 0,
    submitted_at REAL NOT NULL,
    due REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    history TEXT NOT NULL
);
CREATE INDEX jobs_services ON jobs(seq) WHERE service = 2;
CREATE TABLE payloads (seq INTEGER PRIMARY KEY, line TEXT NOT NULL);
CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE expiry (key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE members (key TEXT NOT NULL, member TEXT NOT NULL, UNIQUE (key, member));
"""
_NAMES = """
ALTER TABLE jobs ADD COLUMN tag TEXT;
ALTER TABLE jobs ADD COLUMN dag TEXT;
ALTER TABLE jobs ADD COLUMN dag_run TEXT;
CREATE INDEX jobs_dag ON jobs(dag, dag_run) WHERE dag IS NOT NULL;
"""
"""They never change, so only an insert writes the index, of a job that is one of a DAG's."""
_SUBMIT_SECONDS = 600.0
"""Between a manifest, by its client's clock, and its jobs."""


def open_database(path: Path, *, synced: bool = False) -> sqlite3.Connection:
    """The database at that path, created if it is missing.

    Args:
        synced: a commit is on the disk, not only in the operating system's hands.

    Raises:
        TitanError: the file is damaged, is not ours, or was written by a newer version.
    """
    spool = path.with_name(_SPOOL)
    if spool.exists():
        raise TitanError(
            f"{spool} holds submissions that an older version has acknowledged and not stored; start that version once, "
            "which takes them over, or move the file away to go on without them"
        )
    try:
        db = sqlite3.connect(path, isolation_level=None)
        try:
            _prepare(db, path, synced)
            if synced:
                # SQLite does that for a log which it makes itself, not for one that another master was killed with.
                sync(path.parent)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as exc:
        raise TitanError(
            f"cannot open the master's state in {path}: {exc}; {advice(exc, path.parent)}"
        ) from exc
    return db


def _prepare(db: sqlite3.Connection, path: Path, synced: bool) -> None:
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
    db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    # After a large transaction the log gives its room back.
    db.execute(f"PRAGMA journal_size_limit={_MAX_LOG}")
    # The master is the only user of the file (it holds a lock on the folder), so no lock is given back.
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
    elif version != SCHEMA_VERSION:
        raise TitanError(
            f"the master's state in {path} has format {version}; this version reads format {SCHEMA_VERSION}. "
            "Use the version that wrote it, or give another data_dir"
        )
    # For retention; not a part of the format: an older version may have written the file in between.
    db.execute("CREATE INDEX IF NOT EXISTS jobs_ended ON jobs(ended_at) WHERE ended_at IS NOT NULL")
    _add_names(db)
    # The version before kept an index of manifests there.
    db.execute("DROP TABLE IF EXISTS manifests")
    titanstore.prepare(db)
    jobs.prepare(db)
    # Of a submission during which a master of an older version was killed.
    db.execute("DELETE FROM payloads WHERE seq NOT IN (SELECT seq FROM jobs)")


def rows_in_memory() -> sqlite3.Connection:
    """The table of jobs alone, for a store whose rows are elsewhere."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(_TABLES + _NAMES)
    return db


# ---------------------------------------------------------------------- tags and DAGs, which the version before did not write


def _add_names(db: sqlite3.Connection) -> None:
    """Add what jobs are listed by, filled in from what is there. An older version leaves it alone.

    Raises:
        sqlite3.Error: the file is as it was.
    """
    if any(column[1] == "tag" for column in db.execute("PRAGMA table_info(jobs)")):
        return
    db.create_function("tag_of", 2, _tag_of, deterministic=True)
    db.executescript(
        f"""BEGIN;
        {_NAMES}
        UPDATE jobs SET tag = (SELECT tag_of(job_id, line) FROM payloads WHERE payloads.seq = jobs.seq);"""
    )
    for manifest, dag in _manifests(db):
        # A job of another time is of another submission.
        first, last = manifest.submitted_at - _SUBMIT_SECONDS, manifest.submitted_at + _SUBMIT_SECONDS
        for job_id in manifest.ids:
            db.execute(
                "UPDATE jobs SET dag = ?, dag_run = ? WHERE job_id = ? AND submitted_at BETWEEN ? AND ?",
                (*dag, full_id(job_id), first, last),
            )
    db.execute("COMMIT")


def _manifests(db: sqlite3.Connection) -> list[tuple[sdk_keys.Manifest, tuple[str, str]]]:
    """Those of DAGs, and which DAGs: oldest first, as a later one takes an id over."""
    found = []
    for prefix in sdk_keys.MANIFESTS:
        query = "SELECT key, value FROM kv WHERE key BETWEEN ? AND ?"
        for key, value in db.execute(query, (prefix, prefix + chr(0x10FFFF))):
            dag, manifest = sdk_keys.dag_of(key), sdk_keys.read_manifest(value)
            if dag is not None and manifest is not None and not sdk_keys.is_job(dag[0], manifest.ids):
                found.append((manifest, dag))
    return sorted(found, key=lambda item: item[0].submitted_at)


def _tag_of(job_id: str, line: str) -> str | None:
    try:
        header, fields, *_ = json.loads(line)
        return JobLine(job_id, header, tuple(fields), 0, 0).requirement
    except (ValueError, TypeError):
        return None
