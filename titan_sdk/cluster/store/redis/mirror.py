"""The rows of all jobs in memory, so that scheduling need not ask Redis; finished ones as compact as they are stored."""

from __future__ import annotations

import json

from titan_sdk.cluster.store.rows import JobRow, Service
from titan_sdk.model.status import JobStatus

__all__ = ["Mirror", "can_go", "decode", "encode", "needs_line"]


def encode(row: JobRow) -> bytes:
    """A row as it is stored, under its id."""
    return json.dumps(
        [
            row.seq,
            row.status,
            row.parents,
            row.attempts,
            row.worker,
            row.run,
            row.handle,
            row.exit_code,
            row.reason,
            row.service,
            row.submitted_at,
            row.due,
            row.started_at,
            row.ended_at,
        ],
        separators=(",", ":"),
    ).encode("ascii")


def decode(job_id: str, stored: bytes) -> JobRow:
    """The row behind that."""
    seq, status, parents, *rest = json.loads(stored)
    pairs = tuple((str(parent), int(number)) for parent, number in parents)
    return JobRow(job_id, seq, JobStatus(status), pairs, *rest)


def needs_line(row: JobRow) -> bool:
    """Whether its payload may be wanted again."""
    return not row.status.is_terminal or row.service == Service.LIVE


def can_go(row: JobRow) -> bool:
    """Whether it may be forgotten when it is old enough."""
    return row.status.is_terminal and row.handle is None and row.service != Service.LIVE


def _is_settled(row: JobRow) -> bool:
    return row.status.is_terminal and row.handle is None and row.service == Service.NO


class Mirror:
    """What is durable."""

    def __init__(self) -> None:
        self._settled: dict[str, bytes] = {}
        self._active: dict[str, JobRow] = {}
        self.ids: dict[int, str] = {}
        """Ids of jobs that may still change, by number."""
        self.lines: dict[int, str] = {}
        """Payload lines of those that may run (again), by number."""
        self.newest = 0
        """The highest number."""

    def job(self, job_id: str) -> JobRow | None:
        row = self._active.get(job_id)
        if row is not None:
            return row
        stored = self._settled.get(job_id)
        return None if stored is None else decode(job_id, stored)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._active or job_id in self._settled

    def active(self) -> list[JobRow]:
        """Rows that may still change, in the order of submission."""
        return sorted(self._active.values(), key=lambda row: row.seq)

    def keep(self, row: JobRow, stored: bytes | None = None) -> None:
        """Take a row in; an earlier submission of the id is forgotten."""
        self.forget(row.job_id)
        self.newest = max(self.newest, row.seq)
        if _is_settled(row):
            self._settled[row.job_id] = encode(row) if stored is None else stored
        else:
            self._active[row.job_id] = row
            self.ids[row.seq] = row.job_id

    def forget(self, job_id: str) -> None:
        self._settled.pop(job_id, None)
        row = self._active.pop(job_id, None)
        if row is not None:
            self.ids.pop(row.seq, None)
