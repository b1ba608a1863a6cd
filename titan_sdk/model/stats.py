"""What a master says of its workers and its queue (protocol section 9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ClusterStats", "JobHistoryEntry", "WorkerStats"]


@dataclass(frozen=True, slots=True)
class JobHistoryEntry:
    """One of a worker's latest jobs. A real master shows at most 10."""

    job_id: str
    status: str
    time: str = ""
    completed_at: float | None = None
    """The end in unix seconds; ``None`` while the job runs."""


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """One worker. On a real master ``name`` is the worker's port, as it reports no host."""

    name: str
    port: int
    tags: tuple[str, ...]
    running: int
    slots: int
    active_jobs: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    history: tuple[JobHistoryEntry, ...] = ()
    resources: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The free and the total amount of each resource; only for a node of a Ray cluster."""

    @property
    def free(self) -> int:
        return max(self.slots - self.running, 0)


@dataclass(frozen=True, slots=True)
class ClusterStats:
    """Workers and queue at one instant. A hint for people and checks, but no proof of a job's state."""

    workers: tuple[WorkerStats, ...] = ()
    queue_size: int = 0
    """The number of ready jobs without a slot. A real master leaves out delayed jobs and jobs that wait for parents."""
    extra: dict[str, object] = field(default_factory=dict, compare=False)
    """All other fields of the master's answer, unchanged."""

    @property
    def tags(self) -> dict[str, int]:
        """The number of live workers of each tag."""
        count: dict[str, int] = {}
        for worker in self.workers:
            for tag in worker.tags:
                count[tag] = count.get(tag, 0) + 1
        return count

    @property
    def queues(self) -> dict[str, int]:
        """The number of queued jobs by tag; empty on a real master, which does not report it."""
        told = self.extra.get("queues")
        if not isinstance(told, dict):
            return {}
        return {str(tag): count for tag, count in told.items() if isinstance(count, int) and count > 0}

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each present problem of the master; empty on a real master, which reports none."""
        told = self.extra.get("problems")
        if not isinstance(told, list):
            return ()
        return tuple(f"{item.get('what')}: {item.get('says')}" for item in told if isinstance(item, dict))

    def has_worker_for(self, requirement: str) -> bool:
        """Whether a live worker has the tag. Tags are case-sensitive (section 4.3, rule 5)."""
        return requirement in self.tags

    def lacks_worker(self, requirement: str) -> str | None:
        """The reason why no live worker can run a job of that tag, with the nearest tag; ``None`` if one can."""
        if self.has_worker_for(requirement):
            return None
        if not self.workers:
            return "the cluster has no workers"
        import difflib  # for this sentence alone

        there = sorted(self.tags)
        text = f"no worker has the tag {requirement!r} (tags present: {', '.join(there) or 'none'})"
        near = [tag for tag in there if tag.lower() == requirement.lower()]
        near += difflib.get_close_matches(requirement.upper(), there, 1)
        return f"{text}; did you mean {near[0]!r}?" if near else text
