"""Pages of a master's jobs, DAGs, services and artifacts, and the changes of its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from titan_sdk.model.status import JobStatus

__all__ = ["JobChanges", "ListPage", "ListedArtifact", "ListedDag", "ListedJob"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job in a list. Times are unix seconds of the master's clock."""

    job_id: str
    state: JobStatus
    submitted_at: float
    tag: str | None = None
    """``None`` for a job that was submitted to an older version of the master."""
    dag: str | None = None
    """The DAG of the job; ``None`` for a single job, and for a job of another SDK."""
    run: str | None = None
    """The run of the DAG, as ``find_dag`` takes it."""
    service: str | None = None
    """``starting``, ``live`` or ``ended``; ``None`` unless it is a service."""
    attempts: int = 0
    worker: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    """The reason of its end, at most 500 characters."""
    started_at: float | None = None
    """Of the latest attempt."""
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class ListedDag:
    """One submission of a DAG."""

    name: str
    run: str
    states: Mapping[JobStatus, int]
    """The number of its jobs in each state. A job whose id was submitted again elsewhere is not counted."""
    submitted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    """The end of its last job; ``None`` while a job is unfinished."""

    @property
    def state(self) -> JobStatus:
        """PENDING before its first job begins, RUNNING until its last one ends, then the worst state of its jobs."""
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
    """A part of a list. Items that are added meanwhile move no item to another page."""

    items: tuple[T, ...]
    cursor: str | None = None
    """The cursor of the next page; ``None`` at the end. A page may be shorter than its limit."""
    total: int | None = None
    """The number of all items, if it was asked for."""
    changes: str | None = None
    """The cursor for ``changes``: it tells the changes since this list."""


@dataclass(frozen=True, slots=True)
class JobChanges:
    """The changes of jobs. A job that has changed several times comes once, in its present state."""

    jobs: tuple[ListedJob, ...]
    """In the order of their latest changes."""
    removed: tuple[str, ...]
    """The ids that the master no longer knows."""
    cursor: str
    """The cursor for the next call."""
    list_again: bool = False
    """Whether the list must be read again: the cursor is too old, or from another master."""
