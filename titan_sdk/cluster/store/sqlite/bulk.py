"""Rows of thousands of jobs at once; ``jobs.insert`` in two parts, see ``cluster.bulk``."""

from __future__ import annotations

import sqlite3

from titan_sdk.cluster.store import changes
from titan_sdk.cluster.store.sqlite.jobs import insert_row

__all__ = ["link_jobs", "remove_orphans", "remove_payloads", "store_payloads"]


def store_payloads(db: sqlite3.Connection, change: changes.StorePayloads) -> None:
    db.executemany("INSERT INTO payloads VALUES (?, ?)", [(row.seq, row.line) for row in change.jobs])


def remove_payloads(db: sqlite3.Connection, change: changes.RemovePayloads) -> None:
    db.executemany("DELETE FROM payloads WHERE seq = ?", [(seq,) for seq in change.numbers])


def link_jobs(db: sqlite3.Connection, change: changes.LinkJobs) -> None:
    for row in change.jobs:
        insert_row(db, row)


def remove_orphans(db: sqlite3.Connection) -> None:
    """Payloads of a submission during which the master died."""
    db.execute("DELETE FROM payloads WHERE seq NOT IN (SELECT seq FROM jobs)")
