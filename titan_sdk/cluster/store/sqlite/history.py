"""What happened to a job's id, as text in the job's row: one line of JSON per entry, oldest first.

A table of its own would be two more pages in every commit of a job's life.
"""

from __future__ import annotations

import json
import sqlite3

from titan_sdk.cluster.store import changes
from titan_sdk.cluster.store.rows import KEPT_HISTORY, HistoryRow

__all__ = ["add", "entry", "read", "shortened"]

_LONGEST = 64 * 1024
"""Characters after which the older half goes: a service may be restarted for ever."""

_ADD = (
    f"UPDATE jobs SET history = CASE WHEN length(history) > {_LONGEST} "
    f"THEN substr(history, {_LONGEST // 2} + instr(substr(history, {_LONGEST // 2}), char(10))) "
    "ELSE history END || ? WHERE seq = ?"
)


def entry(at: float, event: str, detail: str) -> str:
    """One line."""
    return json.dumps((at, event, detail)) + "\n"


def add(db: sqlite3.Connection, change: changes.AddHistory) -> None:
    db.execute(_ADD, (entry(change.at, change.event, change.detail), change.seq))


def read(db: sqlite3.Connection, job_id: str) -> list[HistoryRow]:
    found = db.execute("SELECT history FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return [] if found is None else [HistoryRow(*json.loads(line)) for line in found[0].splitlines()]


def shortened(text: str) -> str:
    """See ``KEPT_HISTORY``."""
    return "".join(text.splitlines(keepends=True)[-KEPT_HISTORY:])
