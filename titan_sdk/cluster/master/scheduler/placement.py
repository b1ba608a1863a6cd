"""Workers, their slots, and which of them a job goes to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["Worker", "Workers"]


@dataclass(slots=True)
class Worker:
    """A place with so many slots. ``busy`` holds the ids whose processes are alive there, cancelled ones included."""

    name: str
    tags: frozenset[str]
    slots: int
    pool: bool = False
    """It stands for many places, of which somebody else chooses one."""
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
        self._by_tag: dict[str, list[Worker]] = {}

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
            self._by_tag.setdefault(tag, []).append(worker)

    def remove(self, name: str) -> Worker | None:
        worker = self._by_name.pop(name, None)
        if worker is not None:
            for tag in worker.tags:
                self._by_tag[tag].remove(worker)
                if not self._by_tag[tag]:
                    del self._by_tag[tag]
        return worker

    @property
    def tags(self) -> Iterable[str]:
        """Every tag that some worker has."""
        return self._by_tag.keys()

    def choose(self, tag: str, preferred: str | None) -> Worker | None:
        """The preferred worker if it can take the job now, else the least loaded one that can."""
        free = [worker for worker in self._by_tag.get(tag, ()) if worker.free > 0]
        for worker in free:
            if worker.name == preferred:
                return worker
        return min(free, key=lambda worker: worker.load, default=None)

    def host_for_service(self, tag: str, preferred: str | None) -> Worker | None:
        """As ``choose``, but slots do not matter."""
        able = [worker for worker in self._by_tag.get(tag, ()) if worker.slots > 0]
        for worker in able:
            if worker.name == preferred:
                return worker
        return min(able, key=lambda worker: worker.load, default=None)
