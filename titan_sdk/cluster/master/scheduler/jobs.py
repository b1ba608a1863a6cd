"""The scheduler's input and output as plain values, and its record of an unfinished job."""

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
    """The scheduler's data of a job. The payload stays in the store."""

    job_id: str
    seq: int
    """The number of the submission, unique over the cluster's life. Equal priorities run in this order."""
    tag: str
    priority: int = 1
    due: float = 0.0
    """The earliest start, by the caller's clock."""
    parents: tuple[str, ...] = ()
    affinity: bool = False
    service: bool = False
    """Whether it is a service. A service takes no job slot, as it may live for weeks."""
    max_runs: int = 4
    """The most runs, as many as a real master gives a failing script (protocol section 5.2)."""
    attempts: int = 0
    """The runs before the restart of the master."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a job that the scheduler has forgotten, and its worker."""

    status: JobStatus
    worker: str | None = None


SettledLookup = Callable[[str], Settled | None]


@dataclass(frozen=True, slots=True)
class Start:
    job_id: str
    worker: str
    attempt: int
    near: str | None = None
    """The place of its parent, if affinity was asked for."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End the run, and report its exit as usual. It keeps its slot until then."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Requeued:
    job_id: str
    seq: int
    attempts: int
    """The number of runs that count."""
    reason: str
    code: int | None = None
    """Exit code of the run."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The final end of a job. The scheduler has forgotten the id."""

    job_id: str
    seq: int
    status: JobStatus
    worker: str | None
    reason: str | None
    ran: bool
    """Whether it was running."""
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
    """An unfinished job, which only the scheduler changes. A resubmitted id is another Job."""

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
        """The number of parents that have not completed yet."""
        self.children: list[Job] = []
        self.attempt = spec.attempts
        """The number of the current or last run, from 1."""
        self.worker: str | None = None
        self.place: str | None = None
        """The place of the run, if the worker is a pool of places."""
        self.pooled = False
        """Whether the worker is a pool. The run has begun once its place is known."""
        self.tied_to: str | None = None
        """The worker of the first completed parent, if affinity was asked for."""
        self.ready_since: float | None = None
        """The time when it first could have run. A repeated run keeps it."""
        self.rank: tuple[float, int] = (-spec.priority, spec.seq)
        """The rank in the queue: smaller runs first. Fixed while the job is ready."""

    @property
    def status(self) -> JobStatus:
        """The state that clients see. Every kind of waiting is PENDING, as on a real master."""
        begun = self.phase is Phase.RUNNING and (self.place is not None or not self.pooled)
        return JobStatus.RUNNING if begun else JobStatus.PENDING

    @property
    def ran_on(self) -> str | None:
        """The place of the run, or else its worker."""
        return self.place or self.worker
