"""The job table: the rows of unsettled jobs, in memory. Rows of settled jobs are read when they are asked for.

A change of the master's own bookkeeping counts at once, before it is durable, so no client sees an older state. A change
that a client asks for counts once it is durable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from titan_sdk.cluster.store.changes import (
    Change,
    ForgetJobs,
    InsertJobs,
    SetEnded,
    SetGone,
    SetPending,
    SetPlaced,
    SetRunning,
    SetService,
)
from titan_sdk.cluster.store.rows import JobRow, NewJob, ServiceState
from titan_sdk.model.status import JobStatus

__all__ = ["JobTable", "Step", "fresh", "is_settled", "transition"]


class JobTable:
    """The rows by id and by number."""

    def __init__(self) -> None:
        self.by_number: dict[int, JobRow] = {}
        """Only this class changes them."""
        self._numbers: dict[str, int] = {}
        self._unsaved: Counter[int] = Counter()
        """The number of entries per row that are not durable yet."""

    def get(self, job_id: str) -> JobRow | None:
        seq = self._numbers.get(job_id)
        return None if seq is None else self.by_number[seq]

    def rows(self) -> list[JobRow]:
        """All rows, in the order of submission."""
        return sorted(self.by_number.values(), key=lambda row: row.seq)

    def unfinished(self) -> list[JobRow]:
        """The PENDING and RUNNING jobs."""
        return [row for row in self.rows() if not row.status.is_terminal]

    def live_services(self) -> list[JobRow]:
        return [row for row in self.rows() if row.service == ServiceState.LIVE]

    def ended_but_alive(self) -> list[JobRow]:
        """The ended jobs whose process may still live, without live services."""
        return [
            row
            for row in self.rows()
            if row.status.is_terminal and row.handle is not None and row.service != ServiceState.LIVE
        ]

    def keep(self, row: JobRow) -> None:
        """Add a row. It replaces an earlier submission of its id."""
        earlier = self._numbers.get(row.job_id)
        if earlier is not None and earlier != row.seq:
            del self.by_number[earlier]
        self.by_number[row.seq] = row
        self._numbers[row.job_id] = row.seq

    # ------------------------------------------------------------------ changes

    def begin(self, changes: Iterable[Change]) -> tuple[int, ...]:
        """Apply bookkeeping that is not durable yet. Returns the numbers of the changed rows."""
        numbers: dict[int, None] = {}
        for change in changes:
            numbers |= dict.fromkeys(self._change(change))
        self._unsaved.update(numbers.keys())
        return tuple(numbers)

    def saved(self, numbers: Iterable[int]) -> list[JobRow]:
        """The changes of ``begin`` are durable. Returns the rows that have left the table."""
        left: list[JobRow] = []
        for seq in numbers:
            self._unsaved[seq] -= 1
            if not self._unsaved[seq]:
                del self._unsaved[seq]
                left += self._let_go(seq)
        return left

    def apply(self, changes: Iterable[Change]) -> list[JobRow]:
        """Apply a client's durable changes. Returns the rows that have left the table."""
        numbers: dict[int, None] = {}
        for change in changes:
            if isinstance(change, InsertJobs):
                for job in change.jobs:
                    self.keep(fresh(job))
            else:
                numbers |= dict.fromkeys(self._change(change))
        return [row for seq in numbers if seq not in self._unsaved for row in self._let_go(seq)]

    def _change(self, change: Change) -> list[int]:
        if isinstance(change, Step):
            row = self.by_number.get(change.seq)
            if row is not None:
                self.by_number[change.seq] = transition(row, change)
                return [change.seq]
        elif isinstance(change, ForgetJobs):
            for job_id, seq in change.jobs:
                if self._numbers.get(job_id) == seq:
                    del self.by_number[seq], self._numbers[job_id]
        return []

    def _let_go(self, seq: int) -> list[JobRow]:
        row = self.by_number.get(seq)
        if row is None or not is_settled(row):
            return []
        del self.by_number[seq]
        del self._numbers[row.job_id]
        return [row]


Step = SetRunning | SetPlaced | SetPending | SetEnded | SetGone | SetService
"""A change of one job, by its number."""


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
        service=ServiceState.DEPLOYING if job.service else ServiceState.NO,
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
                status=row.status if row.service == ServiceState.LIVE else JobStatus.RUNNING,
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
    """Whether the job has ended and none of its processes is left. It may be removed when it is old enough."""
    return row.status.is_terminal and row.handle is None and row.service != ServiceState.LIVE
