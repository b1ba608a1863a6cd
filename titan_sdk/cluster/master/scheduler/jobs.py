"""What goes into the scheduler and what comes out of it, as plain values; and an unfinished job inside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from titan_sdk.cluster.engines.base import Outcome
from titan_sdk.model.status import JobStatus

__all__ = [
    "Effect",
    "Ended",
    "Job",
    "JobSpec",
    "Kill",
    "Outcome",
    "Phase",
    "Requeued",
    "Settled",
    "SettledLookup",
    "Start",
]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the scheduler has to know of a job; the payload stays in the store."""

    job_id: str
    seq: int
    """Order of submission over the cluster's whole life; unique, and what makes equal priorities FIFO."""
    tag: str
    priority: int = 1
    due: float = 0.0
    """Not before this time (the caller's clock)."""
    parents: tuple[str, ...] = ()
    affinity: bool = False
    service: bool = False
    """A service occupies no job slot: it may live for weeks."""
    max_runs: int = 4
    """Runs in all, as a real master gives a failing script (protocol section 5.2)."""
    attempts: int = 0
    """Runs it has had already, before the master was restarted."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How a job that the scheduler has forgotten ended, and where."""

    status: JobStatus
    worker: str | None = None


SettledLookup = Callable[[str], Settled | None]


@dataclass(frozen=True, slots=True)
class Start:
    job_id: str
    worker: str
    attempt: int
    near: str | None = None
    """Where its parent ran, if it is to run there."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End the run and report its exit as usual; its slot is held until then."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Requeued:
    job_id: str
    seq: int
    attempts: int
    """Runs that count."""
    reason: str
    code: int | None = None
    """Exit code of the run."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Final; the scheduler knows the id no longer."""

    job_id: str
    seq: int
    status: JobStatus
    worker: str | None
    reason: str | None
    ran: bool
    """Whether it was running, rather than waiting for something."""
    code: int | None = None
    """Exit code of its last run."""


Effect = Start | Kill | Requeued | Ended


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
        "job_id",
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
        self.job_id = spec.job_id
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
    def status(self) -> JobStatus:
        """What a client may see; all kinds of waiting read PENDING, as on a real master."""
        begun = self.phase is Phase.RUNNING and (self.place is not None or not self.pooled)
        return JobStatus.RUNNING if begun else JobStatus.PENDING

    @property
    def ran_on(self) -> str | None:
        """The most that is known of where it runs or ran."""
        return self.place or self.worker
