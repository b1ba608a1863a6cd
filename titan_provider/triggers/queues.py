"""The triggers of one process that wait at one admission window."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from titan_provider.admission import Sightings

__all__ = ["AdmissionQueue"]


class AdmissionQueue:
    """In the order they came. Whose turn it is asks for everybody: a thousand of them must not ask a thousand times."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.sightings = Sightings()
        self.admitted: set[str] = set()
        """Let in by somebody else's look, and not gone yet."""
        self._waiting: dict[str, int] = {}

    @contextmanager
    def place(self, job_id: str, limit: int) -> Iterator[None]:
        """A place in the queue while the block runs.

        :param limit: jobs that the window holds for this one
        """
        self._waiting[job_id] = limit
        try:
            yield
        finally:
            del self._waiting[job_id]
            self.admitted.discard(job_id)

    def wanted(self, limit: int) -> list[str]:
        """Who waits for a window of that size."""
        return [
            job_id for job_id, size in self._waiting.items() if size == limit and job_id not in self.admitted
        ]
