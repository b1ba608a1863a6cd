"""Which job to ask a polled master about next. No I/O but the waiting for the moment."""

from __future__ import annotations

import asyncio
import heapq
import random

__all__ = ["Schedule"]

_GROWTH, _LONGEST = 1.5, 15.0


class Schedule:
    """When to ask about which job: the longer nothing happens to it, the later."""

    def __init__(self) -> None:
        self._pace: dict[str, tuple[float, float]] = {}
        """By job: the shortest pause between two questions, and the present one."""
        self._due: list[tuple[float, str]] = []
        self._when: dict[str, float] = {}
        self._changed = asyncio.Event()

    def add(self, job_id: str, interval: float) -> None:
        if job_id not in self._pace:
            self._pace[job_id] = (interval, interval)
            self._put(job_id, 0.0)

    def again(self, job_id: str, *, changed: bool, slowest: float) -> None:
        if job_id in self._pace:
            least, pause = self._pace[job_id]
            pause = least if changed else min(max(pause * _GROWTH, least), max(_LONGEST, least))
            self._pace[job_id] = (least, pause)
            self._put(job_id, max(pause, slowest) * random.uniform(0.75, 1.0))

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
