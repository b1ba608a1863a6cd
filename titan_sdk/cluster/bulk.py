"""Submissions of thousands of jobs, taken in small steps so that nobody else waits for them.

Still all or nothing: payloads are stored first, a few at a time, where nothing refers to them; the jobs follow in
one transaction. A master that dies in between leaves payloads without jobs, which the next one removes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from titan_sdk.cluster.admission import check_graph, foreign_parents, read_dag
from titan_sdk.cluster.scheduler import JobSpec
from titan_sdk.cluster.state import State
from titan_sdk.cluster.store import changes
from titan_sdk.cluster.store.rows import NewJob
from titan_sdk.wire.jobs import JobLine

__all__ = ["LARGE_JOBS", "check_large_dag", "is_large", "store"]

LARGE_PAYLOAD = 128 * 1024
"""Characters of a payload above which reading it is work for a thread."""
LARGE_JOBS = 200
_STEP = 200
_STEP_BYTES = 512 * 1024


def is_large(payload: str) -> bool:
    """Whether a submission is to be taken in small steps, told without reading it."""
    return len(payload) > LARGE_PAYLOAD or payload.count(";") >= LARGE_JOBS


async def check_large_dag(payload: str, known: Callable[[str], bool]) -> list[JobLine]:
    """As ``admission.check_dag``; only ``known`` is called on the loop.

    Raises:
        Refused: some line cannot be carried out; nothing of the payload may be.
    """
    lines, foreign = await asyncio.to_thread(_read, payload)
    there = set()
    for number, parent in enumerate(foreign):
        if known(parent):
            there.add(parent)
        if number % _STEP == 0:
            await asyncio.sleep(0)
    await asyncio.to_thread(check_graph, lines, there.__contains__)
    return lines


def _read(payload: str) -> tuple[list[JobLine], list[str]]:
    lines = read_dag(payload)
    return lines, foreign_parents(lines)


async def store(state: State, lines: Sequence[JobLine]) -> list[JobSpec]:
    """Make a large submission durable; its specifications.

    Raises:
        StoreFailed: it cannot be stored; nothing of it is.
    """
    specs: list[JobSpec] = []
    rows: list[NewJob] = []
    stored = 0
    size = 0
    try:
        for start in range(0, len(lines), _STEP):
            more_specs, more_rows = state.new_jobs(lines[start : start + _STEP])
            specs += more_specs
            rows += more_rows
            size += sum(len(row.line) for row in more_rows)
            if size > _STEP_BYTES or start + _STEP >= len(lines):
                await state.store.journal.write(changes.StorePayloads(tuple(rows[stored:])))
                stored, size = len(rows), 0
            else:
                await asyncio.sleep(0)
        linked = await asyncio.to_thread(_link, rows)
        await state.store.journal.write(changes.LinkJobs(linked))
        await asyncio.sleep(0)
    except BaseException:
        state.store.journal.record(changes.RemovePayloads(tuple(row.seq for row in rows[:stored])))
        raise
    return specs


def _link(rows: list[NewJob]) -> tuple[NewJob, ...]:
    """The steps knew nothing of each other: fill in the numbers of parents within the submission."""
    numbers = {row.job_id: row.seq for row in rows}
    return tuple(
        replace(row, parents=tuple((p, numbers.get(p, seq)) for p, seq in row.parents))
        if row.parents
        else row
        for row in rows
    )
