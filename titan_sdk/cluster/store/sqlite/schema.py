"""The SQLite file: its tables, and opening it safely.

Durability: WAL with ``synchronous=NORMAL``. The operating system has a commit before it is acknowledged, so it survives a
``kill -9`` of the master at any instant. After a power cut, commits that the system had not written yet may be missing
(usually half a minute), but never half of a transaction. With ``synchronous=FULL`` each commit waits until the disk has the
log (SQLite also syncs the folder after it has created the log).
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
"""The file beside the database with an older version's submissions."""
_MAX_LOG = 64 * 1024 * 1024
_CHECKPOINT_PAGES = 4000
"""The number of pages (of 4 KiB) in the log that starts a checkpoint. The master then waits for the disk; SQLite's default
of 1,000 is reached after some hundred small jobs.
"""

# The cost of a commit is the number of its pages, so the changes of a job touch few of them. The number is the key, so new
# rows are adjacent. The history is a part of the row. Queries of a starting master only have no index. Payloads have a
# separate table: an UPDATE rewrites a whole row, and a payload may have megabytes.
# `handle`: the engine's name of a process that may be alive; NULL once it has ended.
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
"""These columns never change, so only the insert of a DAG's job writes the index."""
_SUBMIT_SECONDS = 600.0
"""The most seconds between a manifest, by its client's clock, and its jobs."""


def open_database(path: Path, *, synced: bool = False) -> sqlite3.Connection:
    """The database at that path, created if it is missing.

    Args:
        synced: a commit is on the disk, not only in the operating system's hands.

    Raises:
        TitanError: the file is damaged, is another program's, or was written by a newer version.
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
                # SQLite syncs the folder of a log that it creates, but not of one that a killed master has left.
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
    # The log shrinks after a large transaction.
    db.execute(f"PRAGMA journal_size_limit={_MAX_LOG}")
    # The master is the only user of the file (it locks the folder), so SQLite keeps its lock.
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
    elif version != SCHEMA_VERSION:
        raise TitanError(
            f"the master's state in {path} has format {version}; this version reads format {SCHEMA_VERSION}. "
            "Use the version that wrote it, or give another data_dir"
        )
    # For retention. Not a part of the format: an older version may have written the file in between.
    db.execute("CREATE INDEX IF NOT EXISTS jobs_ended ON jobs(ended_at) WHERE ended_at IS NOT NULL")
    _add_names(db)
    # An index of the version before.
    db.execute("DROP TABLE IF EXISTS manifests")
    titanstore.prepare(db)
    jobs.prepare(db)
    # The payloads of a submission during which a master of an older version was killed.
    db.execute("DELETE FROM payloads WHERE seq NOT IN (SELECT seq FROM jobs)")


def rows_in_memory() -> sqlite3.Connection:
    """A database with only the job table, for a store with its rows elsewhere."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(_TABLES + _NAMES)
    return db


# ---------------------------------------------------------------------- tags and DAGs, which the version before did not write


def _add_names(db: sqlite3.Connection) -> None:
    """Add the columns of lists, filled from the stored data. Older versions ignore them.

    Raises:
        sqlite3.Error: it failed, and the file is unchanged.
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
        # A job of another time belongs to another submission.
        first, last = manifest.submitted_at - _SUBMIT_SECONDS, manifest.submitted_at + _SUBMIT_SECONDS
        for job_id in manifest.ids:
            db.execute(
                "UPDATE jobs SET dag = ?, dag_run = ? WHERE job_id = ? AND submitted_at BETWEEN ? AND ?",
                (*dag, full_id(job_id), first, last),
            )
    db.execute("COMMIT")


def _manifests(db: sqlite3.Connection) -> list[tuple[sdk_keys.Manifest, tuple[str, str]]]:
    """The manifests and their DAGs, oldest first, because a later one takes an id over."""
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
