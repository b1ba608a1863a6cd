"""What jobs are listed by beside their ids and states: tags and DAGs, which the version before did not write."""

from __future__ import annotations

import json
import sqlite3

from titan_sdk.cluster import sdk_keys
from titan_sdk.model.rules import full_id
from titan_sdk.wire.jobs import JobLine

__all__ = ["COLUMNS", "add"]

COLUMNS = """
ALTER TABLE jobs ADD COLUMN tag TEXT;
ALTER TABLE jobs ADD COLUMN dag TEXT;
ALTER TABLE jobs ADD COLUMN dag_run TEXT;
CREATE INDEX jobs_dag ON jobs(dag, dag_run) WHERE dag IS NOT NULL;
"""
"""They never change, so only an insert writes the index, of a job that is one of a DAG's."""
_SUBMIT_SECONDS = 600.0
"""Between a manifest, by its client's clock, and its jobs."""


def add(db: sqlite3.Connection) -> None:
    """Fill them in from what is there. An older version leaves them alone.

    Raises:
        sqlite3.Error: the file is as it was.
    """
    if any(column[1] == "tag" for column in db.execute("PRAGMA table_info(jobs)")):
        return
    db.create_function("tag_of", 2, _tag_of, deterministic=True)
    db.executescript(
        f"""BEGIN;
        {COLUMNS}
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
