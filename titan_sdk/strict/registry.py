"""The master's view of its workers, which is often wrong (sections 3 and 5.2)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from titan_sdk.strict.jobs import StrictJob
from titan_sdk.strict.worker import StrictWorker

__all__ = ["HOST", "Execution", "History", "Registered", "Registry"]

HOST = "127.0.0.1"
_SATURATED = 99


@dataclass(slots=True, eq=False)
class Registered:
    """A registered worker. Registering again makes a new object with load 0; runs keep the old one."""

    port: int
    tags: tuple[str, ...]
    capacity: int
    permanent: bool
    worker: StrictWorker | None
    """``None`` if a client registered a worker that does not exist."""
    load: int = 0
    active_job: str | None = None

    @property
    def saturated(self) -> bool:
        return self.load >= self.capacity

    def release(self) -> None:
        self.load = max(self.load - 1, 0)

    def penalise(self) -> None:
        self.load = _SATURATED


@dataclass(slots=True)
class Execution:
    """The last run of an id."""

    worker: Registered | None
    status: str = "RUNNING"
    started: float = field(default_factory=time.time)
    ended: float = 0.0

    def end(self, status: str) -> None:
        self.status, self.ended = status, time.time()


class Registry:
    """Registered workers by port."""

    def __init__(self, workers: Iterable[StrictWorker], slots: int) -> None:
        self._workers = {worker.spec.port: worker for worker in workers}
        self._slots = slots
        self._registered: dict[int, Registered] = {}

    def register(self, port: int, tag: str, *, permanent: bool) -> None:
        """Add the tag, and reset the load."""
        old = self._registered.get(port)
        tags = (*(old.tags if old else ()), *(() if old and tag in old.tags else (tag,)))
        kept = permanent or (old is not None and old.permanent)
        self._registered[port] = Registered(port, tags, self._slots, kept, self._workers.get(port))

    def all(self) -> list[Registered]:
        return list(self._registered.values())

    def get(self, port: int) -> Registered | None:
        return self._registered.get(port)

    def drop(self, port: int) -> None:
        self._registered.pop(port, None)

    def capable(self, tag: str) -> list[Registered]:
        return [entry for entry in self._registered.values() if tag in entry.tags]

    @staticmethod
    def best(job: StrictJob, capable: Iterable[Registered]) -> Registered | None:
        """The preferred worker if it has room, else the least loaded."""
        free = [entry for entry in capable if not entry.saturated]
        for entry in free:
            if entry.port == job.preferred_port:
                return entry
        return min(free, key=lambda entry: entry.load, default=None)


class History:
    """The last ten jobs of each worker, as STATS_JSON shows them."""

    def __init__(self) -> None:
        self._by_port: dict[int, list[StrictJob]] = {}

    def add(self, execution: Execution | None, job: StrictJob) -> None:
        if execution is None or execution.worker is None:
            return
        jobs = self._by_port.setdefault(execution.worker.port, [])
        jobs[:] = [*(other for other in jobs if other.job_id != job.job_id), job][-10:]

    def forget(self, job_id: str) -> None:
        for jobs in self._by_port.values():
            jobs[:] = [job for job in jobs if job.job_id != job_id]

    def of(self, port: int) -> list[StrictJob]:
        return self._by_port.get(port, [])
