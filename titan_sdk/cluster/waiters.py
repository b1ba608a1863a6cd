"""Those who wait for jobs to end, woken at the moment the end is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

__all__ = ["Waiters"]


class Waiters:
    """One event per waiting request, found by job id."""

    def __init__(self) -> None:
        self._events: dict[str, set[asyncio.Event]] = {}
        self._closed = False

    @asynccontextmanager
    async def watch(self, job_ids: Iterable[str]) -> AsyncIterator[asyncio.Event]:
        """An event that is set when any of the jobs ends, or the master stops."""
        event = asyncio.Event()
        watched = tuple(job_ids)
        for job_id in watched:
            self._events.setdefault(job_id, set()).add(event)
        if self._closed:
            event.set()
        try:
            yield event
        finally:
            for job_id in watched:
                events = self._events.get(job_id)
                if events is not None:
                    events.discard(event)
                    if not events:
                        del self._events[job_id]

    def wake(self, job_id: str) -> None:
        """The job has ended."""
        for event in self._events.get(job_id, ()):
            event.set()

    def close(self) -> None:
        """Wake everybody, now and from now on."""
        self._closed = True
        for events in self._events.values():
            for event in events:
                event.set()
