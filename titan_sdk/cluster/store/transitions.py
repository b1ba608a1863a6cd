"""A job's life: what each change makes of its row. Both stores save what comes out; nothing else changes a row."""

from __future__ import annotations

from dataclasses import replace

from titan_sdk.cluster.store.changes import (
    SetEnded,
    SetGone,
    SetPending,
    SetPlaced,
    SetRunning,
    SetService,
)
from titan_sdk.cluster.store.rows import JobRow, NewJob, Service
from titan_sdk.model.status import JobStatus

__all__ = ["Step", "fresh", "is_settled", "transition"]

Step = SetRunning | SetPlaced | SetPending | SetEnded | SetGone | SetService
"""A change of one job that is known by its number."""


def fresh(job: NewJob) -> JobRow:
    """The row of a submission."""
    return JobRow(
        job_id=job.job_id,
        seq=job.seq,
        status=JobStatus.PENDING,
        parents=job.parents,
        attempts=0,
        worker=None,
        run=None,
        handle=None,
        exit_code=None,
        reason=None,
        service=Service.DEPLOYING if job.service else Service.NO,
        submitted_at=job.submitted_at,
        due=job.due,
        started_at=None,
        ended_at=None,
        tag=job.tag,
        dag=job.dag,
        dag_run=job.dag_run,
    )


def transition(row: JobRow, change: Step) -> JobRow:
    """The row after the change."""
    match change:
        case SetRunning():
            return replace(
                row,
                status=row.status if row.service == Service.LIVE else JobStatus.RUNNING,
                worker=change.worker,
                run=change.run,
                handle=change.handle,
                attempts=change.attempt,
                started_at=change.at,
            )
        case SetPlaced():
            return replace(row, worker=change.worker, started_at=change.at)
        case SetPending():
            return replace(
                row,
                status=JobStatus.PENDING,
                handle=None,
                attempts=change.attempts,
                exit_code=change.exit_code,
            )
        case SetEnded():
            return replace(
                row,
                status=change.status,
                exit_code=change.exit_code,
                reason=change.reason,
                ended_at=change.at,
                handle=None if change.gone else row.handle,
            )
        case SetGone():
            return replace(row, handle=None) if row.run == change.run else row
        case SetService():
            return replace(row, service=change.state)


def is_settled(row: JobRow) -> bool:
    """Whether nothing of the job is left to happen: it may be forgotten when it is old enough."""
    return row.status.is_terminal and row.handle is None and row.service != Service.LIVE
