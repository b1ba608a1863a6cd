"""Lists of jobs and DAGs by SQL, over the file's rows or over another store's copy in memory.

Rows are scanned in the order of their numbers, some thousands at a time, with turns for other requests in between. A list
therefore needs no index that every change of a job would update; 100,000 jobs take some tens of milliseconds.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from typing import Any

from titan_sdk.cluster.store.rows import DagRow, JobRow, ServiceState
from titan_sdk.cluster.store.sqlite.jobs import COLUMNS, read_row
from titan_sdk.model.rules import full_id
from titan_sdk.wire.listing import List

__all__ = ["count", "dag", "page"]

_WINDOW = 2_000
"""The range of numbers that one statement scans."""
_TURN_SECONDS = 0.003
# The plus keeps SQLite from using an index: rows must be read in the order of their numbers.
_TIMES = {"started": "+started_at", "ended": "+ended_at"}
_NEWEST_OF_DAG = (
    "dag IS NOT NULL AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.dag = jobs.dag AND "
    "other.dag_run = jobs.dag_run AND other.seq > jobs.seq)"
)


async def page(db: sqlite3.Connection, request: List, end: int | None = None) -> list[JobRow]:
    """The jobs of a page, and one more if there are more. For DAGs, the newest job of each.

    Args:
        end: only jobs of lower numbers.
    """
    if request.order in _TIMES:
        return await _by_time(db, request, end)
    wanted, down = request.limit + 1, request.order == "newest"
    terms, values = _filters(request)
    query = f"SELECT {COLUMNS} FROM jobs WHERE {terms} ORDER BY seq {'DESC' if down else ''} LIMIT ?"
    found: list[JobRow] = []
    async for window in _windows(db, end, down=down, after=request.after):
        found += map(read_row, db.execute(query, (*window, *values, wanted - len(found))))
        if len(found) == wanted:
            break
    return found


async def _by_time(db: sqlite3.Connection, request: List, end: int | None) -> list[JobRow]:
    wanted, time = request.limit + 1, _TIMES[request.order]
    terms, values = _filters(request)
    at, number = request.after or (float("inf"), "0")
    query = (
        f"SELECT {time}, {COLUMNS} FROM jobs WHERE {terms} AND {time} >= ? AND ({time}, seq) < (?, ?) "
        f"ORDER BY {time} DESC, seq DESC LIMIT ?"
    )
    found: list[tuple[float, int, JobRow]] = []
    least = float("-inf")
    async for window in _windows(db, end, down=True):
        rows = db.execute(query, (*window, *values, least, at, int(number), wanted)).fetchall()
        if not rows:
            continue
        jobs = (read_row(tuple(row[1:])) for row in rows)
        found += [(row[0], job.seq, job) for row, job in zip(rows, jobs, strict=True)]
        found.sort(key=lambda item: item[:2], reverse=True)
        del found[wanted:]
        if len(found) == wanted:
            least = found[-1][0]
    return [job for *_, job in found]


async def count(db: sqlite3.Connection, request: List, end: int | None = None) -> int:
    """The number of all matching jobs or DAGs."""
    terms, values = _filters(request)
    if request.order in _TIMES:
        terms += f" AND {_TIMES[request.order]} IS NOT NULL"
    total = 0
    async for window in _windows(db, end, down=True):
        total += db.execute(f"SELECT count(*) FROM jobs WHERE {terms}", (*window, *values)).fetchone()[0]
    return total


def dag(db: sqlite3.Connection, name: str, run: str) -> list[DagRow]:
    """The states of the jobs of a DAG's submission."""
    query = (
        "SELECT status, count(*), min(submitted_at), min(started_at), max(ended_at) FROM jobs "
        "WHERE dag = ? AND dag_run = ? GROUP BY status"
    )
    return db.execute(query, (name, run)).fetchall()


async def _windows(
    db: sqlite3.Connection, end: int | None, *, down: bool, after: tuple[float, str] | None = None
) -> AsyncIterator[tuple[int, int]]:
    """The ranges of numbers of all jobs, or of those behind a cursor, with turns for other requests in between."""
    lowest, highest = db.execute("SELECT (SELECT min(seq) FROM jobs), (SELECT max(seq) FROM jobs)").fetchone()
    if lowest is None:
        return
    if end is not None:
        highest = min(highest, end - 1)
    if after is not None:
        at = int(after[1])
        lowest, highest = (lowest, min(highest, at - 1)) if down else (max(lowest, at + 1), highest)
    began = time.monotonic()
    starts = range(lowest, highest + 1, _WINDOW)
    for start in reversed(starts) if down else starts:
        if time.monotonic() - began > _TURN_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()
        yield start, min(start + _WINDOW - 1, highest)


def _filters(request: List) -> tuple[str, list[Any]]:
    """The conditions of a row in a range of numbers, and their values behind the two of the range."""
    terms = ["seq BETWEEN ? AND ?"]
    values: list[Any] = []

    def want(term: str, *given: Any) -> None:
        terms.append(term)
        values.extend(given)

    dags = request.what == "dags"
    if dags:
        want(_NEWEST_OF_DAG)
    if request.states:
        # A DAG matches if one of its jobs has one of the states.
        words = f"status IN ({', '.join('?' * len(request.states))})"
        others = "SELECT 1 FROM jobs AS other WHERE other.dag = jobs.dag AND other.dag_run = jobs.dag_run"
        want(f"EXISTS ({others} AND other.{words})" if dags else words, *request.states)
    if request.what == "services":
        want(f"service != {ServiceState.NO}")
    for column, wanted in (("tag", request.tag), ("+dag", request.dag), ("dag_run", request.run)):
        if wanted is not None:
            want(f"{column} = ?", wanted)
    name = "dag" if dags else "job_id"
    if request.prefix:
        want(f"(instr({name}, ?) = 1 OR instr({name}, ?) = 1)", request.prefix, full_id(request.prefix))
    if request.contains:
        want(f"instr(lower({name}), lower(?)) > 0", request.contains)
    if request.since is not None:
        want("submitted_at >= ?", request.since)
    if request.until is not None:
        want("submitted_at < ?", request.until)
    return " AND ".join(terms), values
