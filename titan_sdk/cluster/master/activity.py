"""What each worker did lately: the part of the statistics that is neither state nor store."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Activity", "Entry"]

_MAX_HISTORY = 10


@dataclass(slots=True)
class Entry:
    job_id: str
    status: str
    started: float
    ended: float | None = None


class Activity:
    """The last ten jobs of every worker, one entry per id, as a real master keeps them (protocol section 9)."""

    def __init__(self) -> None:
        self._by_worker: dict[str, dict[str, Entry]] = {}

    def started(self, worker: str, job_id: str, now: float) -> None:
        entries = self._by_worker.setdefault(worker, {})
        entries.pop(job_id, None)
        entries[job_id] = Entry(job_id, "RUNNING", now)
        if len(entries) > _MAX_HISTORY:
            oldest = next((key for key, entry in entries.items() if entry.ended is not None), None)
            if oldest is not None:
                del entries[oldest]

    def ended(self, worker: str | None, job_id: str, status: str, now: float) -> None:
        entry = self._by_worker.get(worker or "", {}).get(job_id)
        if entry is not None:
            entry.status, entry.ended = status, now

    def of(self, worker: str) -> list[Entry]:
        """Oldest first, running ones before the rest."""
        entries = list(self._by_worker.get(worker, {}).values())
        return sorted(entries, key=lambda entry: entry.ended is not None)[:_MAX_HISTORY]

    def clear(self) -> None:
        """Forget what has ended."""
        for entries in self._by_worker.values():
            for job_id in [key for key, entry in entries.items() if entry.ended is not None]:
                del entries[job_id]
