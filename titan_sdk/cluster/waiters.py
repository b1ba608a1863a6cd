"""Those who wait for jobs to end, woken at the moment the end is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

__all__ = ["Waiters"]


@dataclass(eq=False, slots=True)
class _Watch:
    left: int
    """Ends until the event is set."""
    event: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self) -> None:
        self.left -= 1
        if self.left <= 0:
            self.event.set()


class Waiters:
    """One watch per waiting request, found by job id."""

    def __init__(self) -> None:
        self._watches: dict[str, set[_Watch]] = {}
        self.closed = False

    @asynccontextmanager
    async def watch(self, job_ids: Iterable[str], count: int = 1) -> AsyncIterator[asyncio.Event]:
        """An event that is set when so many of the jobs have ended, or the master stops.

        An end that was decided before and is stored now counts too: look at the jobs again afterwards.
        """
        watch = _Watch(count)
        watched = tuple(job_ids)
        for job_id in watched:
            self._watches.setdefault(job_id, set()).add(watch)
        if self.closed:
            watch.event.set()
        try:
            yield watch.event
        finally:
            for job_id in watched:
                watches = self._watches.get(job_id)
                if watches is not None:
                    watches.discard(watch)
                    if not watches:
                        del self._watches[job_id]

    def wake(self, job_id: str) -> None:
        """The job has ended."""
        for watch in self._watches.get(job_id, ()):
            watch.count()

    def close(self) -> None:
        """Wake everybody, now and from now on."""
        self.closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.event.set()
