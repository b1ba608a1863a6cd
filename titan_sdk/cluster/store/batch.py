"""What one commit saves, as a backend takes it: rows as they are to be, and changes of everything else in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from titan_sdk.cluster.store.changes import (
    AddHistory,
    Change,
    ForgetJobs,
    InsertJobs,
    Operation,
)
from titan_sdk.cluster.store.rows import HistoryRow, JobRow, NewJob
from titan_sdk.cluster.store.table import JobTable
from titan_sdk.cluster.store.transitions import Step, fresh, transition

__all__ = ["Batch", "Entry"]


@dataclass(slots=True)
class Entry:
    """Changes that become durable together."""

    changes: tuple[Change, ...]
    client: asyncio.Future[object] | None = None
    """Gets the result. ``None``: the master's own bookkeeping, which is kept and tried again until it is durable."""
    then: Callable[[], None] | None = None
    """Of bookkeeping: called once it is durable."""
    touched: tuple[int, ...] = ()
    """Of bookkeeping: the numbers of the rows that it has changed."""


class Batch:
    """Entries that become durable together. To make one changes nothing.

    Args:
        table: rows as they are now, what bookkeeping has changed included.
    """

    def __init__(self, entries: Sequence[Entry], table: JobTable) -> None:
        self.entries = entries
        self.inserts: list[NewJob] = []
        self.rows: dict[int, JobRow] = {}
        """Rows that were changed, those of ``inserts`` where something has happened to them since."""
        self.history: dict[int, list[HistoryRow]] = {}
        """To be appended, by the job's number; that of ``inserts`` begins with the submission."""
        self.forgets: list[tuple[str, int]] = []
        self.operations: list[Operation] = []
        self._table = table
        self._new: dict[int, NewJob] = {}
        self._results: list[int | None] = []
        for entry in entries:
            self._add(entry)

    def row(self, seq: int) -> JobRow | None:
        """A row as this commit leaves it."""
        if seq in self.rows:
            return self.rows[seq]
        return fresh(self._new[seq]) if seq in self._new else self._table.row(seq)

    def job_ids(self) -> Iterator[str]:
        """Of the jobs that it changes."""
        yield from (job.job_id for job in self.inserts)
        yield from (row.job_id for row in self.rows.values())
        yield from (job_id for job_id, _ in self.forgets)

    def changed(self, *, new: bool) -> Iterable[int]:
        """The numbers of rows and histories to save, of jobs that are inserted or of the others."""
        if new and not self._new:
            return ()
        return [seq for seq in self.rows | self.history if (seq in self._new) == new]

    def results(self, of_operations: Sequence[object]) -> Iterable[tuple[Entry, object]]:
        """Each entry with its result, that of its last change."""
        for entry, index in zip(self.entries, self._results, strict=True):
            yield entry, None if index is None else of_operations[index]

    def _add(self, entry: Entry) -> None:
        result = None
        for change in entry.changes:
            result = None
            if isinstance(change, InsertJobs):
                self.inserts += change.jobs
                self._new |= {job.seq: job for job in change.jobs}
            elif isinstance(change, ForgetJobs):
                self.forgets += change.jobs
            elif isinstance(change, AddHistory):
                if self.row(change.seq) is not None:
                    added = HistoryRow(change.at, change.event, change.detail)
                    self.history.setdefault(change.seq, []).append(added)
            elif not isinstance(change, Step):
                result = len(self.operations)
                self.operations.append(change)
            elif entry.client is not None and (row := self.row(change.seq)) is not None:
                self.rows[change.seq] = transition(row, change)
        for seq in entry.touched:
            row = self.row(seq)
            if row is not None:
                self.rows[seq] = row
        self._results.append(result)
