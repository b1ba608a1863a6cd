"""Which job to ask a polled master about next. No I/O but the waiting for the moment."""

from __future__ import annotations

import asyncio
import heapq
import random

from titan_provider.waiting import FIRST_LOOK, GROWTH

__all__ = ["Schedule"]

_LONGEST = 15.0
"""Seconds between two questions about one of many jobs; the master's statistics tell of some changes earlier."""


class Schedule:
    """When to ask about which job: the longer nothing happens to it, the later, as :class:`~titan_provider.waiting.Pace`."""

    def __init__(self) -> None:
        self._pace: dict[str, tuple[float, float]] = {}
        """By job: the longest pause between two questions about one of few, and the present one."""
        self._due: list[tuple[float, str]] = []
        self._when: dict[str, float] = {}
        self._changed = asyncio.Event()

    def add(self, job_id: str, interval: float) -> None:
        if job_id not in self._pace:
            self._pace[job_id] = (interval, min(FIRST_LOOK, interval))
            self._put(job_id, 0.0)

    def again(self, job_id: str, *, changed: bool, slowest: float, many: bool) -> None:
        """Ask about it later.

        :param changed: whether something has just happened to it
        :param slowest: the shortest pause for everybody, in seconds
        :param many: whether so many jobs are asked about that a quiet one may wait
        """
        if job_id in self._pace:
            interval, pause = self._pace[job_id]
            if changed:
                pause = min(FIRST_LOOK, interval)
            self._put(job_id, max(pause, slowest) * random.uniform(0.75, 1.0))
            longest = max(interval, _LONGEST) if many else interval
            self._pace[job_id] = (interval, min(pause * GROWTH, longest))

    def hurry(self, job_id: str) -> None:
        if job_id in self._when:
            self._put(job_id, 0.0)

    def forget(self, job_id: str) -> None:
        self._pace.pop(job_id, None)
        self._when.pop(job_id, None)

    async def next(self) -> str:
        """The job that is due first, once it is."""
        while True:
            while self._due and self._when.get(self._due[0][1]) != self._due[0][0]:
                heapq.heappop(self._due)  # forgotten, or moved
            left = self._due[0][0] - _now() if self._due else 60.0
            if left <= 0:
                _, job_id = heapq.heappop(self._due)
                del self._when[job_id]
                return job_id
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _put(self, job_id: str, seconds: float) -> None:
        at = _now() + seconds
        self._when[job_id] = at
        heapq.heappush(self._due, (at, job_id))
        if self._due[0][0] == at:
            self._changed.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
