"""Pages of what a master has: jobs, DAGs, artifacts; and which jobs have changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from titan_sdk.model.status import JobStatus

__all__ = ["JobChanges", "ListPage", "ListedArtifact", "ListedDag", "ListedJob"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job as the master lists it. Times are unix seconds of the master's clock."""

    job_id: str
    state: JobStatus
    submitted_at: float
    tag: str | None = None
    """``None`` for one that was submitted to an older version of the master."""
    dag: str | None = None
    """The DAG with which it was submitted; ``None`` for a job by itself, or one sent by another SDK."""
    run: str | None = None
    """Which submission of the DAG; see ``find_dag``."""
    service: str | None = None
    """``starting``, ``live`` or ``ended``; ``None`` for a job."""
    attempts: int = 0
    worker: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    """Why it ended, at most 500 characters."""
    started_at: float | None = None
    """Of the latest attempt."""
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class ListedDag:
    """One submission of a DAG."""

    name: str
    run: str
    states: Mapping[JobStatus, int]
    """How many of its jobs are in each state; a job whose id was submitted again elsewhere is not counted."""
    submitted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    """When its last job ended; ``None`` while one is unfinished."""

    @property
    def state(self) -> JobStatus:
        """RUNNING once something has begun and not all is over; then the worst end of its jobs."""
        there = {state for state, count in self.states.items() if count}
        if any(not state.is_terminal for state in there):
            return JobStatus.PENDING if there == {JobStatus.PENDING} else JobStatus.RUNNING
        return next((s for s in (JobStatus.DEAD, JobStatus.CANCELLED) if s in there), JobStatus.COMPLETED)


@dataclass(frozen=True, slots=True)
class ListedArtifact:
    """A file of the master's registry."""

    name: str
    size: int
    """Bytes."""
    modified_at: float


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T]):
    """A part of a list. What is added meanwhile moves nothing between two pages."""

    items: tuple[T, ...]
    cursor: str | None = None
    """Give it back for the next page; ``None`` at the end. A page may be shorter than its limit."""
    total: int | None = None
    """How many there are in all, where asked for."""
    changes: str | None = None
    """From where ``changes`` tells what has happened to jobs since."""


@dataclass(frozen=True, slots=True)
class JobChanges:
    """What has happened to jobs. A job that has changed several times comes once, as it is now."""

    jobs: tuple[ListedJob, ...]
    """In the order of their latest changes."""
    removed: tuple[str, ...]
    """Ids that the master does not know any more."""
    cursor: str
    """From where to ask next."""
    list_again: bool = False
    """The master cannot tell all that has happened since, as that is too long ago or another master was there."""
