"""One unfinished job inside the scheduler."""

from __future__ import annotations

from enum import Enum

from titan_sdk.cluster.scheduler.types import JobSpec
from titan_sdk.model.status import JobStatus

__all__ = ["Job", "Phase"]


class Phase(Enum):
    WAITING = "waiting"  # for parents
    DELAYED = "delayed"  # for its time
    READY = "ready"  # for a slot
    RUNNING = "running"
    ENDED = "ended"


class Job:
    """Mutable, owned by the scheduler alone. Identity matters: a resubmitted id is another Job."""

    __slots__ = ("attempt", "children", "missing", "phase", "spec", "tied_to", "worker")

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.phase = Phase.WAITING
        self.missing = 0
        """Parents that have not completed yet."""
        self.children: list[Job] = []
        self.attempt = spec.attempts
        """Number of the current or last run, from 1."""
        self.worker: str | None = None
        self.tied_to: str | None = None
        """Worker of the first parent to complete, where affinity was asked for."""

    @property
    def job_id(self) -> str:
        return self.spec.job_id

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller runs first: higher priority, then earlier submission."""
        return (-self.spec.priority, self.spec.seq)

    @property
    def status(self) -> JobStatus:
        """What a client may see; all kinds of waiting read PENDING, as on a real master."""
        return JobStatus.RUNNING if self.phase is Phase.RUNNING else JobStatus.PENDING
