"""What a store keeps of a job, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from titan_sdk.model.status import JobStatus

__all__ = ["KEPT_HISTORY", "DagRow", "HistoryRow", "JobRow", "NewJob", "ServiceState"]

KEPT_HISTORY = 200
"""Entries of an id's history that stay when it is submitted once more: some ids are used for years."""


class ServiceState:
    """Values of ``JobRow.service``."""

    NO = 0
    DEPLOYING = 1
    LIVE = 2
    """To be kept running, also after a restart of the master."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as it is submitted. ``parents`` names each parent's own submission, so that a later reuse of the
    parent's id is not mistaken for it.
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
    """The DAG that it was submitted with, as far as the master was told; a job by itself is of none."""
    dag_run: str | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """``handle`` is the engine's word for a run that may be alive; ``None`` once it is known to be gone."""

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
"""Of the jobs of a DAG in one status: it, how many, when the first was submitted and started, and the last ended."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    at: float
    event: str
    detail: str
