"""The queues: ready jobs per tag by rank, delayed jobs by time, and workers with their slots.

Every step is O(log n).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from titan_sdk.cluster.master.scheduler.jobs import Job, Phase

__all__ = ["DelayQueue", "ReadyQueue", "ReadyQueues", "Worker", "Workers"]

# Removing an entry from the middle of a heap is expensive, so cancelled jobs stay until they surface. Above this number,
# and if they are the majority, the heap is rebuilt, so that memory follows the live jobs.
_COMPACT_FROM = 64


class ReadyQueue:
    """The ready jobs of one tag."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[float, int], Job]] = []
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def push(self, job: Job) -> None:
        heapq.heappush(self._heap, (job.rank, job))
        self._live += 1

    def head(self) -> Job | None:
        while self._heap:
            job = self._heap[0][1]
            if job.phase is Phase.READY:
                return job
            heapq.heappop(self._heap)
        return None

    def pop(self) -> Job:
        job = self.head()
        if job is None:
            raise IndexError("no job is ready")
        heapq.heappop(self._heap)
        self._live -= 1
        return job

    def ahead_of(self, job: Job) -> int:
        return sum(1 for rank, other in self._heap if rank < job.rank and other.phase is Phase.READY)

    def forget(self) -> None:
        """A queued job was cancelled."""
        self._live -= 1
        if len(self._heap) > _COMPACT_FROM and self._live < len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry[1].phase is Phase.READY]
            heapq.heapify(self._heap)


class ReadyQueues:
    """One queue per tag, so that a job without a worker does not block others."""

    def __init__(self) -> None:
        self.by_tag: dict[str, ReadyQueue] = {}
        """The non-empty queues."""

    def push(self, job: Job) -> None:
        self.by_tag.setdefault(job.spec.tag, ReadyQueue()).push(job)

    def take(self, workers: Workers) -> tuple[Job, Worker] | None:
        """The best-ranked job with a free slot, over all tags, and its worker."""
        best: Job | None = None
        # Jobs may have more tags than workers have.
        for tag in workers.by_tag:
            queue = self.by_tag.get(tag)
            head = None if queue is None else queue.head()
            if head is not None and (best is None or head.rank < best.rank) and workers.choose(tag, None):
                best = head
        if best is None:
            return None
        worker = workers.choose(best.spec.tag, best.tied_to)
        return None if worker is None else (self._pop(best), worker)

    def take_service(self, workers: Workers) -> tuple[Job, Worker] | None:
        """The next service and its worker. Slots and the rank between tags do not matter."""
        for tag, queue in self.by_tag.items():
            head = queue.head()
            # No host: the pools of this tag have no place.
            if head is not None and (host := workers.host_for_service(tag, head.tied_to)) is not None:
                return self._pop(head), host
        return None

    def _pop(self, job: Job) -> Job:
        self.by_tag[job.spec.tag].pop()
        self._drop_if_empty(job.spec.tag)
        return job

    def forget(self, tag: str) -> None:
        self.by_tag[tag].forget()
        self._drop_if_empty(tag)

    def ahead_of(self, job: Job) -> int:
        return self.by_tag[job.spec.tag].ahead_of(job)

    def lengths(self) -> dict[str, int]:
        return {tag: len(queue) for tag, queue in self.by_tag.items()}

    def _drop_if_empty(self, tag: str) -> None:
        if not len(self.by_tag[tag]):
            del self.by_tag[tag]


class DelayQueue:
    """The delayed jobs, by the time when they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Job]] = []
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def push(self, job: Job) -> None:
        heapq.heappush(self._heap, (job.spec.due, job.spec.seq, job))
        self._live += 1

    def next_due(self) -> float | None:
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[Job]:
        """Remove and return the jobs that are due, earliest first."""
        due: list[Job] = []
        while (when := self.next_due()) is not None and when <= now:
            due.append(heapq.heappop(self._heap)[2])
        self._live -= len(due)
        return due

    def forget(self) -> None:
        """A delayed job was cancelled."""
        self._live -= 1
        if len(self._heap) > _COMPACT_FROM and self._live < len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry[2].phase is Phase.DELAYED]
            heapq.heapify(self._heap)

    def _drop_stale(self) -> None:
        while self._heap and self._heap[0][2].phase is not Phase.DELAYED:
            heapq.heappop(self._heap)


# ---------------------------------------------------------------------- workers


@dataclass(slots=True)
class Worker:
    """A worker with its slots. ``busy`` holds the ids of its live processes, including cancelled ones."""

    name: str
    tags: frozenset[str]
    slots: int
    pool: bool = False
    """Whether it is a pool: it stands for many places, and the engine chooses one."""
    busy: set[str] = field(default_factory=set)

    @property
    def free(self) -> int:
        return self.slots - len(self.busy)

    @property
    def load(self) -> float:
        return len(self.busy) / max(self.slots, 1)


class Workers:
    """The live workers, by name and by tag."""

    def __init__(self) -> None:
        self._by_name: dict[str, Worker] = {}
        self.by_tag: dict[str, list[Worker]] = {}
        """The tags of all workers."""

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._by_name.values())

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def get(self, name: str) -> Worker | None:
        return self._by_name.get(name)

    def add(self, name: str, tags: Iterable[str], slots: int, *, pool: bool = False) -> None:
        if name in self._by_name:
            raise ValueError(f"there is a worker {name!r} already")
        worker = Worker(name, frozenset(tags), slots, pool)
        self._by_name[name] = worker
        for tag in worker.tags:
            self.by_tag.setdefault(tag, []).append(worker)

    def remove(self, name: str) -> Worker | None:
        worker = self._by_name.pop(name, None)
        if worker is not None:
            for tag in worker.tags:
                self.by_tag[tag].remove(worker)
                if not self.by_tag[tag]:
                    del self.by_tag[tag]
        return worker

    def choose(self, tag: str, preferred: str | None) -> Worker | None:
        """The preferred worker if it can take the job now, else the least loaded one that can."""
        free = [worker for worker in self.by_tag.get(tag, ()) if worker.free > 0]
        for worker in free:
            if worker.name == preferred:
                return worker
        return min(free, key=lambda worker: worker.load, default=None)

    def host_for_service(self, tag: str, preferred: str | None) -> Worker | None:
        """``choose`` for a service: slots do not matter."""
        able = [worker for worker in self.by_tag.get(tag, ()) if worker.slots > 0]
        for worker in able:
            if worker.name == preferred:
                return worker
        return min(able, key=lambda worker: worker.load, default=None)
