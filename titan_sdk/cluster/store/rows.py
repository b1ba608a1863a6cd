"""The rows of a store as plain values: jobs and their history."""

from __future__ import annotations

from dataclasses import dataclass

from titan_sdk.model.status import JobStatus

__all__ = ["KEPT_HISTORY", "DagRow", "HistoryRow", "JobRow", "NewJob", "ServiceState"]

KEPT_HISTORY = 200
"""The history entries that stay when an id is submitted again: some ids are used for years."""


class ServiceState:
    """Values of ``JobRow.service``."""

    NO = 0
    DEPLOYING = 1
    LIVE = 2
    """Kept running, also after a restart of the master."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A submitted job. ``parents`` has the number of each parent's submission, so a later reuse of the parent's id does not
    count as the parent.
    """

    job_id: str
    seq: int
    line: str
    parents: tuple[tuple[str, int], ...]
    service: bool
    submitted_at: float
    due: float
    tag: str | None = None
    dag: str | None = None
    """The DAG of the submission, if the master knows it; ``None`` for a single job."""
    dag_run: str | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of the job table. ``handle`` is the engine's name of a run that may be alive; ``None`` once it has ended."""

    job_id: str
    seq: int
    status: JobStatus
    parents: tuple[tuple[str, int], ...]
    attempts: int
    worker: str | None
    run: str | None
    handle: str | None
    exit_code: int | None
    reason: str | None
    service: int
    submitted_at: float
    due: float
    started_at: float | None
    ended_at: float | None
    tag: str | None = None
    dag: str | None = None
    dag_run: str | None = None


DagRow = tuple[str, int, float, float | None, float | None]
"""A DAG's jobs of one status: the status, their number, the first submission and start, and the last end."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    at: float
    event: str
    detail: str
