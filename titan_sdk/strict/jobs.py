"""A job of the real master, and its queue, which orders equal priorities by accident."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from titan_sdk.wire.jobs import HEADERS, JobLine

__all__ = ["JavaQueue", "StrictJob", "has_cycle", "parse_plain"]


@dataclass(slots=True, eq=False)
class StrictJob:
    """One submission. The store keeps only its payload, priority and due time."""

    job_id: str
    payload: str
    """``HEADER|field|...|full id``."""
    priority: int = 1
    due_ms: int = 0
    parents: tuple[str, ...] = ()
    affinity: bool = False
    satisfied: set[str] = field(default_factory=set)
    preferred_port: int | None = None
    retries: int = 0
    status: str = "PENDING"

    @classmethod
    def of(cls, line: JobLine) -> StrictJob:
        """The job of a line in a DAG."""
        payload = "|".join((line.header, *line.fields, line.job_id))
        return cls(
            line.job_id, payload, line.priority, _now_ms() + line.delay_ms, line.parents, line.affinity
        )

    @property
    def ready(self) -> bool:
        """Whether all parents are satisfied. A parent named twice is satisfied once, so such a job is never ready."""
        return len(self.satisfied) >= len(self.parents)

    @property
    def fields(self) -> list[str]:
        """The payload's fields. Empty ones at the end are lost."""
        return self.payload.rstrip("|").split("|")

    @property
    def tag(self) -> str:
        """The capability a worker needs (section 4.3)."""
        header, *fields = (part.strip() for part in self.payload.split("|"))
        for index, text in enumerate((header, *fields[:2])):
            if text in HEADERS:
                return JobLine(self.job_id, text, tuple(fields[index:])).requirement
        return JobLine(self.job_id, header, tuple(fields)).requirement

    @property
    def wait_seconds(self) -> float:
        return (self.due_ms - _now_ms()) / 1000


def parse_plain(payload: str) -> StrictJob:
    """The job that SUBMIT_JOB reads in any text (section 4.7)."""
    rest, priority, delay = payload.strip(), 1, 0
    head, pipe, tail = rest.rpartition("|")
    if pipe and (number := _integer(tail, 63)) is not None:
        rest, delay = head, number
    head, pipe, tail = rest.rpartition("|")
    if pipe and (number := _integer(tail, 31)) is not None:
        rest, priority = head, number
    job_id = str(uuid.uuid4())
    prefix, pipe, body = rest.partition("|")
    if pipe and not prefix.startswith(("RUN_PAYLOAD", "DEPLOY_PAYLOAD", "START_ARCHIVE", "RUN_ARCHIVE")):
        job_id, rest = prefix, body.strip()
    return StrictJob(job_id, rest, priority, _now_ms() + delay)


def has_cycle(jobs: Sequence[StrictJob]) -> bool:
    """Whether the jobs of one payload have a cycle. Other parents do not count."""
    graph = TopologicalSorter[str]()
    for job in jobs:
        graph.add(job.job_id, *job.parents)
    try:
        graph.prepare()
    except CycleError:
        return True
    return False


class JavaQueue:
    """A binary heap that compares priorities only. Removing the first entry moves the *last* one to the front, so the
    youngest of many equal ones comes next (section 4.5).
    """

    def __init__(self) -> None:
        self._heap: list[StrictJob] = []
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, job: StrictJob) -> None:
        heap = self._heap
        heap.append(job)
        index = len(heap) - 1
        while index and heap[(parent := (index - 1) // 2)].priority < job.priority:
            heap[index] = heap[parent]
            index = parent
        heap[index] = job
        self._filled.set()

    async def take(self) -> StrictJob:
        """Wait for the next job."""
        while not self._heap:
            self._filled.clear()
            await self._filled.wait()
        first, last = self._heap[0], self._heap.pop()
        if self._heap:
            self._sift_down(0, last)
        return first

    def remove(self, job_id: str) -> None:
        """Remove every job of that id."""
        self._heap = [job for job in self._heap if job.job_id != job_id]
        for index in reversed(range(len(self._heap) // 2)):
            self._sift_down(index, self._heap[index])

    def _sift_down(self, index: int, job: StrictJob) -> None:
        heap = self._heap
        while (child := 2 * index + 1) < len(heap):
            if child + 1 < len(heap) and heap[child].priority < heap[child + 1].priority:
                child += 1
            if heap[child].priority <= job.priority:
                break
            heap[index] = heap[child]
            index = child
        heap[index] = job


def _integer(text: str, bits: int) -> int | None:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        return None
    number = int(text)
    return number if -(2**bits) <= number < 2**bits else None


def _now_ms() -> int:
    return round(time.time() * 1000)
