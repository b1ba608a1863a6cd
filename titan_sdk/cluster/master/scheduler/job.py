"""One unfinished job inside the scheduler."""

from __future__ import annotations

from enum import Enum

from titan_sdk.cluster.master.scheduler.types import JobSpec
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

    __slots__ = (
        "attempt",
        "children",
        "missing",
        "phase",
        "place",
        "pooled",
        "rank",
        "ready_since",
        "spec",
        "tied_to",
        "worker",
    )

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.phase = Phase.WAITING
        self.missing = 0
        """Parents that have not completed yet."""
        self.children: list[Job] = []
        self.attempt = spec.attempts
        """Number of the current or last run, from 1."""
        self.worker: str | None = None
        self.place: str | None = None
        """Where it runs or ran, if its worker is a pool that stands for many places."""
        self.pooled = False
        """Whether its worker is such a pool; the run has not begun before its place is known."""
        self.tied_to: str | None = None
        """Worker of the first parent to complete, where affinity was asked for."""
        self.ready_since: float | None = None
        """When it first could have run; a run that is repeated does not wait from the beginning."""
        self.rank: tuple[float, int] = (-spec.priority, spec.seq)
        """Smaller runs first. Fixed while the job is ready."""

    @property
    def job_id(self) -> str:
        return self.spec.job_id

    @property
    def status(self) -> JobStatus:
        """What a client may see; all kinds of waiting read PENDING, as on a real master."""
        begun = self.phase is Phase.RUNNING and (self.place is not None or not self.pooled)
        return JobStatus.RUNNING if begun else JobStatus.PENDING

    @property
    def seat(self) -> str | None:
        """The most that is known of where it runs or ran."""
        return self.place or self.worker
