"""The master's state: the scheduler's jobs, and the store's rows. A decision counts before it is durable."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from titan_sdk.cluster.engines.staging import SERVICES
from titan_sdk.cluster.logs import LogStore
from titan_sdk.cluster.master.scheduler import Ended, Job, JobSpec, Scheduler, Settled
from titan_sdk.cluster.problems import Problems
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import AddHistory, SetEnded
from titan_sdk.cluster.store.rows import NewJob
from titan_sdk.model.rules import full_id
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.jobs import JobLine, dump_line, load_line

__all__ = ["Activity", "HistoryEntry", "JobWaiter", "State", "Waiters", "spec_of"]

log = logging.getLogger(__name__)

_STEP = 500
"""Jobs that are looked up in one turn of the loop."""
_MAX_HISTORY = 10


class State:
    """One interface to the scheduler and the store."""

    def __init__(self, store: Store, logs: LogStore) -> None:
        self.store = store
        self.logs = logs
        self.clock = store.clock
        self.scheduler = Scheduler()
        self.activity = Activity()
        self.problems = Problems()
        self.waiters = Waiters()
        self.ended: Counter[str] = Counter()
        """The number of ended jobs, by status."""

    # ------------------------------------------------------------------ questions

    async def at_hand(self, job_ids: Iterable[str]) -> AsyncIterator[str]:
        """The ids, each while its row is in memory. Other requests get turns meanwhile.

        Raises:
            StoreFailed: the store cannot be read.
        """
        ids = list(job_ids)
        for start in range(0, len(ids), _STEP):
            some = ids[start : start + _STEP]
            await self.store.bring(name for job_id in some for name in (job_id, full_id(job_id)))
            for job_id in some:
                yield job_id
            if start + _STEP < len(ids):
                await asyncio.sleep(0)

    def is_at_hand(self, job_id: str) -> bool:
        """Whether questions about the id can be answered without reading the store."""
        return self.scheduler.jobs.get(job_id) is not None or (
            self.store.is_at_hand(job_id)
            and (self.store.job(job_id) is not None or self.store.is_at_hand(full_id(job_id)))
        )

    async def resolve(self, job_id: str) -> str:
        """The id as the master knows it: itself, or with ``DAG-``. Its row is in memory afterwards."""
        await self.store.bring((job_id, full_id(job_id)))
        return self.resolved(job_id)

    def resolved(self, job_id: str) -> str:
        """``resolve`` for an id whose row is in memory."""
        if self.scheduler.jobs.get(job_id) is None and self.store.job(job_id) is None:
            return full_id(job_id)
        return job_id

    def status(self, job_id: str) -> JobStatus | None:
        """The state of an exact id; ``None`` for an unknown id."""
        job = self.scheduler.jobs.get(job_id)
        if job is not None:
            return job.status
        settled = self.settled(job_id)
        return None if settled is None else settled.status

    def lookup(self, job_id: str) -> JobStatus | None:
        """``status`` for an id with or without ``DAG-``."""
        found = self.status(job_id)
        if found is None and (longer := full_id(job_id)) != job_id:
            return self.status(longer)
        return found

    def settled(self, job_id: str) -> Settled | None:
        """The end of a finished job."""
        row = self.store.job(job_id)
        return Settled(row.status, row.worker) if row is not None and row.status.is_terminal else None

    def number(self, job_id: str) -> int:
        """The number of an id's latest submission, -1 for an unknown one."""
        job = self.scheduler.jobs.get(job_id)
        if job is not None:
            return job.spec.seq
        row = self.store.job(job_id)
        return -1 if row is None else row.seq

    async def resolve_all(self, job_ids: Iterable[str]) -> dict[str, str]:
        """``resolve`` for many ids. Other requests get turns meanwhile."""
        return {job_id: self.resolved(job_id) async for job_id in self.at_hand(job_ids)}

    async def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus | None]:
        """``status`` for many ids. Other requests get turns meanwhile."""
        return {job_id: self.status(job_id) async for job_id in self.at_hand(job_ids)}

    async def numbers(self, job_ids: Sequence[str]) -> dict[str, int]:
        """The numbers of the ids that were ever submitted. Other requests get turns meanwhile."""
        found: dict[str, int] = {}
        async for job_id in self.at_hand(job_ids):
            if (number := self.number(job_id)) >= 0:
                found[job_id] = number
        return found

    def line(self, job: Job) -> JobLine:
        """The job line of an unfinished job that is to be started."""
        return load_line(job.job_id, self.store.line(job.spec.seq))

    def failing(self) -> list[dict[str, Any]]:
        """The present problems: ``what`` fails, and what its error ``says``."""
        failing = self.store.journal.failing
        store = [] if failing is None else [{"what": "writing the master's state", "says": str(failing)}]
        return [*store, *self.problems.listed()]

    # ------------------------------------------------------------------ changes

    def new_jobs(
        self, lines: Sequence[JobLine], numbers: Mapping[str, int], dag: tuple[str, str] | None
    ) -> tuple[list[JobSpec], list[NewJob]]:
        """The specifications and rows of a submission. May be called in a thread.

        Args:
            numbers: the numbers of the parents outside the submission.
            dag: the name and run of the DAG, if it is one.
        """
        now = self.clock.now()
        specs = [spec_of(line, self.store.next_seq(), now) for line in lines]
        own = {spec.job_id: spec.seq for spec in specs}
        rows = []
        name, run = dag or (None, None)
        for line, spec in zip(lines, specs, strict=True):
            parents = tuple((p, own.get(p) or numbers[p]) for p in line.parents)
            times, names = (now, spec.due), (spec.tag, name, run)
            rows.append(NewJob(line.job_id, spec.seq, dump_line(line), parents, spec.service, *times, *names))
        return specs, rows

    def record_end(self, effect: Ended, gone: bool) -> None:
        """Record a job's final state. ``gone``: no process of its run is left."""
        now = self.clock.now()
        job_id, status = effect.job_id, effect.status
        # A reason may contain a file name that is not valid UTF-8.
        reason = None if effect.reason is None else effect.reason.encode("utf-8", "replace").decode()
        self.store.journal.record(
            SetEnded(effect.seq, status, effect.code, reason, now, gone),
            AddHistory(job_id, effect.seq, now, status, reason or ""),
            then=lambda: self.waiters.wake(job_id),
        )
        self.activity.ended(effect.worker, job_id, status, now)
        self.ended[status] += 1
        log.info(
            "job %s ended: %s",
            job_id,
            status,
            extra={"job": job_id, "status": str(status), "exit_code": effect.code},
        )

    def record_event(self, job_id: str, event: str, detail: str) -> None:
        """An entry of a job's history."""
        seq, now = self.number(job_id), self.clock.now()
        self.store.journal.record(AddHistory(job_id, seq, now, event, detail))

    def begin_logs(self, job_ids: Iterable[str]) -> None:
        """Remove the logs of earlier submissions of these ids, which were just taken."""
        for job_id in job_ids:
            try:
                self.logs.drop(job_id)
            except OSError as exc:
                log.error("the log of the last run of %s cannot be removed: %s", job_id, exc)

    def note(self, job_id: str, sentence: str) -> None:
        """Write a line to a job's log."""
        try:
            self.logs.note(job_id, sentence)
        except OSError as exc:
            log.warning("cannot write to the log of %s: %s", job_id, exc)


def spec_of(line: JobLine, seq: int, submitted_at: float, attempts: int = 0) -> JobSpec:
    """The scheduler's specification of a job line."""
    return JobSpec(
        job_id=line.job_id,
        seq=seq,
        tag=line.requirement,
        priority=line.priority,
        due=submitted_at + max(line.delay_ms, 0) / 1000,
        parents=line.parents,
        affinity=line.affinity,
        service=line.header in SERVICES,
        attempts=attempts,
    )


# ---------------------------------------------------------------------- waiting requests, and the workers' latest jobs


@dataclass(slots=True)
class HistoryEntry:
    job_id: str
    status: str
    started: float
    ended: float | None = None


class Activity:
    """The last ten jobs of every worker, one entry per id, as a real master keeps them (protocol section 9)."""

    def __init__(self) -> None:
        self._by_worker: dict[str, dict[str, HistoryEntry]] = {}

    def started(self, worker: str, job_id: str, now: float) -> None:
        entries = self._by_worker.setdefault(worker, {})
        entries.pop(job_id, None)
        entries[job_id] = HistoryEntry(job_id, "RUNNING", now)
        if len(entries) > _MAX_HISTORY:
            oldest = next((key for key, entry in entries.items() if entry.ended is not None), None)
            if oldest is not None:
                del entries[oldest]

    def ended(self, worker: str | None, job_id: str, status: str, now: float) -> None:
        entry = self._by_worker.get(worker or "", {}).get(job_id)
        if entry is not None:
            entry.status, entry.ended = status, now

    def of(self, worker: str) -> list[HistoryEntry]:
        """The worker's latest jobs, oldest first; running ones come before the others."""
        entries = list(self._by_worker.get(worker, {}).values())
        return sorted(entries, key=lambda entry: entry.ended is not None)[:_MAX_HISTORY]

    def clear(self) -> None:
        """Remove the ended jobs."""
        for entries in self._by_worker.values():
            for job_id in [key for key, entry in entries.items() if entry.ended is not None]:
                del entries[job_id]


class JobWaiter:
    """One waiting request. ``event`` is set when one of its jobs (with ``every``: each) has ended.

    It can be set too early while jobs are still being added, so check the jobs again whenever it is set.
    """

    def __init__(self, watches: dict[str, set[JobWaiter]], every: bool) -> None:
        self._watches, self._every = watches, every
        self.job_ids: set[str] = set()
        self._left = 0
        self.event = asyncio.Event()

    def add(self, job_id: str) -> None:
        """Watch the end of this job, also an end that is decided and not stored yet."""
        if job_id not in self.job_ids:
            self.job_ids.add(job_id)
            self._left += 1
            self._watches.setdefault(job_id, set()).add(self)

    def count(self) -> None:
        """One of the jobs has ended."""
        self._left -= 1
        if self._left <= 0 or not self._every:
            self.event.set()

    def end(self) -> None:
        """Stop watching."""
        for job_id in self.job_ids:
            watches = self._watches[job_id]
            watches.discard(self)
            if not watches:
                del self._watches[job_id]


class Waiters:
    """The waiting requests, by job id."""

    def __init__(self) -> None:
        self._watches: dict[str, set[JobWaiter]] = {}
        self._open: set[JobWaiter] = set()
        self.closed = False

    @contextmanager
    def watch(self, *, every: bool = False) -> Iterator[JobWaiter]:
        """A waiting request without jobs. Its event is also set when the master stops."""
        watch = JobWaiter(self._watches, every)
        self._open.add(watch)
        if self.closed:
            watch.event.set()
        try:
            yield watch
        finally:
            self._open.discard(watch)
            watch.end()

    def wake(self, job_id: str) -> None:
        """The job has ended."""
        for watch in self._watches.get(job_id, ()):
            watch.count()

    def close(self) -> None:
        """Wake all waiting requests, and every later one at once."""
        self.closed = True
        for watch in self._open:
            watch.event.set()
