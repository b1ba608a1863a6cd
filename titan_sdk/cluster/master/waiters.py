"""Those who wait for jobs to end, woken at the moment the end is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Waiters", "Watch"]


class Watch:
    """One waiting request. ``event`` is set when one of its jobs has ended, or with ``every`` all of them.

    While jobs are still being added it can be set too early: look at the jobs again whenever it is.
    """

    def __init__(self, watches: dict[str, set[Watch]], every: bool) -> None:
        self._watches, self._every = watches, every
        self.job_ids: set[str] = set()
        self._left = 0
        self.event = asyncio.Event()

    def add(self, job_id: str) -> None:
        """Be told of this job's end, also of one that was decided before and is stored later."""
        if job_id not in self.job_ids:
            self.job_ids.add(job_id)
            self._left += 1
            self._watches.setdefault(job_id, set()).add(self)

    def count(self) -> None:
        """One of the jobs has ended."""
        self._left -= 1
        if self._left <= 0 or not self._every:
            self.event.set()

    def end(self) -> None:
        """Be told no more."""
        for job_id in self.job_ids:
            watches = self._watches[job_id]
            watches.discard(self)
            if not watches:
                del self._watches[job_id]


class Waiters:
    """The watches, found by job id."""

    def __init__(self) -> None:
        self._watches: dict[str, set[Watch]] = {}
        self._open: set[Watch] = set()
        self.closed = False

    @contextmanager
    def watch(self, *, every: bool = False) -> Iterator[Watch]:
        """A watch of no job yet; its event is set at the latest when the master stops."""
        watch = Watch(self._watches, every)
        self._open.add(watch)
        if self.closed:
            watch.event.set()
        try:
            yield watch
        finally:
            self._open.discard(watch)
            watch.end()

    def wake(self, job_id: str) -> None:
        """The job has ended."""
        for watch in self._watches.get(job_id, ()):
            watch.count()

    def close(self) -> None:
        """Wake everybody, now and from now on."""
        self.closed = True
        for watch in self._open:
            watch.event.set()
