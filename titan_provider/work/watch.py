"""The wait for the jobs of one task, which copies their logs meanwhile; the same code in a task and in a triggerer.

A task of one job gets its lines as they come. Lines of several jobs come as foldable groups, so that jobs that run side
by side do not mix: one group at a job's end, and one now and then while it runs. ``joblog.py`` says how a restarted
triggerer avoids repeats.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from titan_provider.exceptions import TitanPlacementTimedOut
from titan_provider.work.joblog import JobLog, LogCursor, Logger, amask_env
from titan_provider.work.plan import KnownJob, blocked_jobs
from titan_provider.work.waiting import GROWTH, Master, Pace, Patience, Statuses
from titan_sdk import ClusterStats, JobStatus, LogPage, NotFound

__all__ = [
    "PROGRESS_EVERY",
    "REASON_EVERY",
    "OwnerLease",
    "ProgressLines",
    "WorkWatch",
    "describe_progress",
    "tell_wait",
    "why_waiting",
]

REASON_EVERY = 10.0
"""Seconds between two looks at the cluster's numbers for a job that waits."""

PROGRESS_EVERY = 10.0
"""The longest pause between two looks at the progress of a job that runs."""

LOG_CHUNKS = 8
"""Chunks of a job's log that are copied in one turn: 2 MiB at most."""


_QUIETEST = 10.0
"""Seconds between two looks of a trigger for new lines, where nothing has been printed for a while."""


class WorkWatch:
    """The jobs of one task until each of them has ended or can never run.

    :param jobs: by name; a parent that is not among them has completed earlier
    :param log_interval: seconds between two groups of one job that goes on printing; None for a task of one job, whose
        lines are copied as they come
    :param placement_timeout: seconds for which a job may wait for a worker once its parents have completed
    :param placement_deadline: in its place, the unix time until which a job may wait
    :param owner_lease: seconds after which the one job ends unless its lease is renewed here
    :param dated: whether ``log`` takes a line's time as ``timestamp=``
    :param log_key: where in TitanStore the positions in the logs are kept; None for a wait that nobody resumes
    """

    def __init__(
        self,
        jobs: Mapping[str, KnownJob],
        log: Logger,
        *,
        poll_interval: float,
        unreachable_timeout: float,
        log_interval: float | None = None,
        placement_timeout: float | None = None,
        placement_deadline: float | None = None,
        owner_lease: float | None = None,
        dated: bool = False,
        log_key: str | None = None,
    ) -> None:
        self._jobs = jobs
        self._log = log
        self._poll_interval = poll_interval
        self._unreachable_timeout = unreachable_timeout
        self._is_alone = log_interval is None
        self._log_interval = log_interval or 0.0
        self._placement_timeout = placement_timeout
        self._placement_deadline = placement_deadline
        self._lease = None if owner_lease is None else OwnerLease(owner_lease)
        self._dated = dated
        self._log_key = log_key
        self._pace, self._quiet = Pace(poll_interval), poll_interval
        self._unknown: Patience | None = None
        """Patience with a master that does not know a job; None while it knows them all."""
        self._logs = {name: self._joblog(name) for name in jobs}
        self._progress = {name: ProgressLines(log, "" if self._is_alone else f"Job {name}") for name in jobs}
        self._copied_at = dict.fromkeys(jobs, float("-inf"))
        self._finished: set[str] = set()
        self._ready_at: dict[str, float] = {}
        """By name: the unix time at which a job was first seen to wait for nothing but a worker."""
        self._started: set[str] = set()
        """Jobs that have run: before another attempt they may wait as long as they have to."""
        self._reasons: dict[str, str] = {}
        self._reason_at = float("-inf")
        self._last_time = 0.0
        self._saved = "" if log_key is None else self._positions()
        self.statuses = dict.fromkeys(jobs, JobStatus.UNKNOWN)
        """The last known state, by name."""

    @property
    def copied(self) -> LogCursor:
        """The position in the log of the first job."""
        return next(iter(self._logs.values())).cursor

    @property
    def is_whole(self) -> bool:
        """Whether all that the jobs printed is in the log, once they have ended."""
        return not any(joblog.is_full for joblog in self._logs.values())

    async def run(self, master: Master) -> None:
        """Return when nothing more can happen to any of the jobs.

        Where it is cancelled, :meth:`save_at_stop` keeps how far the logs are copied.

        :raises TitanMasterUnreachable: the master was silent for too long
        :raises TitanPlacementTimedOut: a job found no worker in time; nothing is cancelled yet
        """
        await self._restore(master)
        nonces = {job.job_id: job.nonce for job in self._jobs.values()}
        with master.watch(nonces, self._poll_interval, self._unreachable_timeout) as statuses:
            while True:
                await self._renew_lease(master)
                if await self._read_statuses(master, statuses):
                    self._pace.restart()
                copied = await self._copy_logs(master)
                if all(status.is_terminal for status in self.statuses.values()):
                    return
                blocked = blocked_jobs(self._jobs, self.statuses)
                if all(status.is_terminal or name in blocked for name, status in self.statuses.items()):
                    return
                waiting = self._waiting_for_a_worker(blocked)
                await self._explain(master, waiting)
                left = await self._until_too_late(master, waiting)
                await statuses.news(min(self._pause(copied), max(left, 0.01)))

    async def _copy_logs(self, master: Master) -> bool:
        """Copy from each log all that is due; whether there was anything."""
        copied = False
        for name, status in self.statuses.items():
            if status.is_terminal or status is JobStatus.RUNNING:
                copied = await self._copy_log(master, name) or copied
            if status is JobStatus.RUNNING:
                await self._tell_progress(master, name)
        return copied

    def _pause(self, copied: bool) -> float:
        """Seconds until the next turn, if nothing happens to the jobs.

        :param copied: whether one of them has just printed something
        """
        pause = self._pause_of_logs(copied)
        return pause if self._lease is None else min(pause, self._lease.pause)

    def _pause_of_logs(self, copied: bool) -> float:
        if JobStatus.RUNNING not in self.statuses.values():
            return REASON_EVERY
        if self._log_key is None:
            return self._pace.next()
        self._quiet = self._poll_interval if copied else min(self._quiet * GROWTH, _QUIETEST)
        return max(self._quiet, self._poll_interval)

    async def _renew_lease(self, master: Master) -> None:
        if self._lease is not None and self._lease.is_due():
            for job in self._jobs.values():
                await self._ask(
                    master,
                    lambda client, job=job: client.renew_owner_lease(job.job_id, nonce=job.nonce or None),  # type: ignore[misc]
                )

    # -- states ---------------------------------------------------------------------------------------------

    async def _read_statuses(self, master: Master, statuses: Statuses) -> bool:
        """Take in what the master has said; whether it was new."""
        while True:
            known = statuses.known
            unknown = [name for name, job in self._jobs.items() if known.get(job.job_id) is JobStatus.UNKNOWN]
            if not unknown and len(known) == len(self._jobs):
                break
            await self._renew_lease(master)
            pause = self._pause_for_unknown(unknown) if unknown else 1.0
            await statuses.news(pause if self._lease is None else min(pause, self._lease.pause))
        self._unknown = None
        changed = False
        for name, job in self._jobs.items():
            status = known[job.job_id]
            if status is not self.statuses[name]:
                changed = True
                if not status.is_terminal and not self._is_alone:
                    self._say("Job %s is %s", name, status)
                self.statuses[name] = status
            if status is JobStatus.RUNNING:
                self._started.add(name)
        return changed

    def _pause_for_unknown(self, unknown: list[str]) -> float:
        """Seconds until the master is asked again about jobs that it does not know.

        A Titan master also answers this while its store is down, so it is believed only after a while.

        :raises TitanMasterUnreachable: it has said so for too long
        """
        job_ids = [self._jobs[name].job_id for name in unknown]
        names = f"the job {job_ids[0]!r}" if self._is_alone else ", ".join(map(repr, job_ids[:5]))
        is_first, unknown_for = self._unknown is None, self._unknown or Patience(self._unreachable_timeout)
        self._unknown = unknown_for
        pause = unknown_for.failed(NotFound(f"the master does not know {names}"))
        if is_first:
            self._log.warning("The master does not know the job %s; asking again", job_ids[0])
        return pause

    def _waiting_for_a_worker(self, blocked: set[str]) -> list[str]:
        return [
            name
            for name, job in self._jobs.items()
            if self.statuses[name] is JobStatus.PENDING
            and name not in blocked
            and all(self.statuses[p].is_success for p in job.parents if p in self._jobs)
        ]

    async def _until_too_late(self, master: Master, waiting: list[str]) -> float:
        """Seconds until a job that has never run has waited for too long.

        :raises TitanPlacementTimedOut: one has
        """
        limit, now = self._placement_timeout, time.time()
        waiting = [name for name in waiting if name not in self._started]
        if not waiting or (limit is None and self._placement_deadline is None):
            return math.inf
        if limit is None:
            late = dict.fromkeys(waiting, self._placement_deadline or 0.0)
        else:
            if fresh := [name for name in waiting if name not in self._ready_at]:
                self._ready_at |= dict.fromkeys(fresh, now)
                await master.log_delivered()
                await self._save(master)
            late = {name: self._ready_at[name] + limit for name in waiting}
        first = min(late, key=late.__getitem__)
        if late[first] <= now:
            raise await self._not_placed(master, first)
        return late[first] - now

    async def _not_placed(self, master: Master, name: str) -> TitanPlacementTimedOut:
        stats = await master.stats(self._unreachable_timeout)
        reason = why_waiting(stats, self._jobs[name].requirement)
        limit = self._placement_timeout
        if self._is_alone:
            after = "within placement_timeout" if limit is None else f"after {limit:g} s"
            return TitanPlacementTimedOut(f"not started {after}: {reason}")
        return TitanPlacementTimedOut(
            f"job {name!r} had not started {limit:g} s after its parents had completed: {reason}; "
            f"all {len(self._jobs)} jobs of the task were told to end"
        )

    async def _explain(self, master: Master, waiting: list[str]) -> None:
        if not waiting or time.monotonic() - self._reason_at < REASON_EVERY:
            return
        stats = await master.stats(self._unreachable_timeout)
        for name in waiting:
            told = self._reasons.get(name, "")
            self._reasons[name] = tell_wait(
                self._log, self._title(name), stats, self._jobs[name].requirement, told
            )
            self._last_time = time.time()
        self._reason_at = time.monotonic()

    async def _tell_progress(self, master: Master, name: str) -> None:
        if not self._progress[name].is_due():
            return
        job = self._jobs[name]
        report = await self._ask(master, lambda client: client.job_report(job.job_id, nonce=job.nonce))
        self._progress[name].tell(report.progress)
        self._last_time = time.time()

    def _title(self, name: str) -> str:
        return f"job {self._jobs[name].job_id if self._is_alone else name}"

    def _say(self, words: str, *values: object) -> None:
        self._last_time = time.time()
        self._log.info(words, *values)

    # -- logs -----------------------------------------------------------------------------------------------

    async def _copy_log(self, master: Master, name: str) -> bool:
        """One page, so that a job that prints without end does not keep the others waiting; at the end all."""
        over = self.statuses[name].is_terminal
        if name in self._finished or (
            not over and time.monotonic() - self._copied_at[name] < self._log_interval
        ):
            return False
        self._copied_at[name] = time.monotonic()
        joblog, copied = self._logs[name], False
        while not joblog.is_full:
            until = joblog.interrupted
            page = await self._read(master, name, until)
            if page.position == joblog.cursor.position:
                break
            if until is None:
                # Groups follow each other: Airflow orders lines by their times.
                joblog.cursor = replace(joblog.cursor, dated=max(self._last_time, joblog.cursor.dated))
                await master.log_delivered()  # the positions count the lines of the pages before
                joblog.begin(page, time.time())
                await self._save(master)
            is_last = over and page.position - joblog.cursor.position < LOG_CHUNKS
            joblog.take(page, last=is_last)
            self._last_time = max(self._last_time, joblog.cursor.dated)
            copied = True
            if not over:
                break
        if over:
            joblog.finish()
            self._finished.add(name)
            if not self._is_alone:
                await self._tell_end(master, name)
                if copied:
                    await master.log_delivered()
                    await self._save(master)
        return copied

    async def _tell_end(self, master: Master, name: str) -> None:
        job = self._jobs[name]
        report = await self._ask(master, lambda client: client.job_report(job.job_id))
        self._progress[name].tell(report.progress)
        self._say("%s", replace(report, job_id=name).describe())

    async def _read(self, master: Master, name: str, until: int | None) -> LogPage:
        job, position = self._jobs[name], self._logs[name].cursor.position
        page: LogPage = await self._ask(
            master,
            lambda client: client.read_logs(
                job.job_id, nonce=job.nonce, position=position, chunks=LOG_CHUNKS, until=until
            ),
        )
        return page

    def _joblog(self, name: str, cursor: LogCursor | None = None) -> JobLog:
        group = "" if self._is_alone else f"Log of job {name}"
        return JobLog(self._log, cursor, dated=self._dated, group=group)

    # -- positions ------------------------------------------------------------------------------------------

    async def _restore(self, master: Master) -> None:
        key = self._log_key
        text = await self._ask(master, lambda client: client.store_get(key)) if key else None
        if not text:
            return
        if self._is_alone:
            (name,) = self._jobs
            cursor = LogCursor.from_text(text) or LogCursor()
            saved: dict[str, Any] = {
                "cursors": {name: text},
                "finished": [],
                "started": [name] if cursor.position else [],
            }
        else:
            saved = json.loads(text)
        for name, written in saved["cursors"].items():
            self._logs[name] = self._joblog(name, LogCursor.from_text(written))
            await amask_env(self._logs[name].cursor.env)
        self._finished |= set(saved["finished"])
        self._ready_at |= saved.get("ready", {})
        self._started |= set(saved.get("started", ()))
        self._saved = self._positions()

    async def _save(self, master: Master) -> None:
        key, text = self._log_key, self._positions()
        if key is not None and text != self._saved:
            await self._ask(master, lambda client: client.store_put(key, text))
            self._saved = text

    async def save_at_stop(self, master: Master) -> None:
        """The triggerer stops: the trigger that goes on elsewhere starts from here.

        Nothing is repeated, because thousands of triggers stop together. Where this fails, the lines since the last save
        are written again, as the same records.

        :raises TitanError: the positions could not be kept
        """
        key, text = self._log_key, self._positions()
        if key is not None and text != self._saved:  # most jobs are quiet
            await master.log_delivered()  # or the next trigger writes the last page again
            await master.once(lambda client: client.store_put(key, text))

    def _positions(self) -> str:
        if self._is_alone:
            return self.copied.to_text()
        begun = {
            n: joblog for n, joblog in self._logs.items() if joblog.cursor.position or joblog.cursor.ahead
        }
        return json.dumps(
            {
                "cursors": {name: joblog.cursor.to_text() for name, joblog in begun.items()},
                "finished": sorted(self._finished),
                "ready": self._ready_at,
                "started": sorted(self._started),
            }
        )

    async def _ask(self, master: Master, request: Callable[[Any], Any]) -> Any:
        return await master.ask(request, self._unreachable_timeout)


class OwnerLease:
    """The moments at which the owner's lease of a job is renewed.

    :param seconds: the lease's length; None where there is none
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.pause = math.inf if seconds is None else seconds / 4
        """The longest that its owner may sleep."""
        self._clock = clock
        self._next = clock()

    def is_due(self) -> bool:
        """Whether to renew now; asked again only after a while."""
        if self.pause == math.inf or self._clock() < self._next:
            return False
        self._next = self._clock() + self.pause
        return True


def why_waiting(stats: ClusterStats, requirement: str) -> str:
    """A sentence on what a pending job waits for, as far as the cluster's numbers tell.

    :param requirement: the tag its worker must have
    """
    if reason := stats.lacks_worker(requirement):
        return reason
    able = [worker for worker in stats.workers if requirement in worker.tags]
    if any(worker.free for worker in able):
        return f"a worker with the tag {requirement!r} has a free slot, so it should start at any moment"
    slots = sum(worker.slots for worker in able)
    return (
        f"all {slots} slots with the tag {requirement!r} are taken, and {stats.queue_size} jobs wait in all"
    )


def tell_wait(log: Logger, job: str, stats: ClusterStats, requirement: str, told: str) -> str:
    """Log why a job waits, unless that was told already; as a warning where no worker can ever take it.

    :param job: how the line names the job
    :param told: the reason that this function returned the last time
    """
    reason = why_waiting(stats, requirement)
    if reason != told:
        # The reason first: ids are long, and lists of log lines are cut.
        tell = log.warning if stats.lacks_worker(requirement) else log.info
        tell("Waiting for a worker: %s (%s)", reason, job)
    return reason


class ProgressLines:
    """A job's ``titan_job.progress`` as lines of the task log: soon after its start, then every ten seconds.

    :param clock: seconds that only grow
    """

    def __init__(self, log: Logger, name: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._name = f"{name}: " if name else ""
        self._clock = clock
        self._next = float("-inf")
        self._pause = 0.5
        self._told = ""

    def is_due(self) -> bool:
        """Whether to ask for the progress now; asked again only after a while."""
        if self._clock() < self._next:
            return False
        self._pause = min(self._pause * 2, PROGRESS_EVERY)
        self._next = self._clock() + self._pause
        return True

    def tell(self, progress: tuple[float | None, str] | None) -> None:
        """Log it, unless that was told already.

        :param progress: of the job's report
        """
        text = describe_progress(progress)
        if text and text != self._told:
            self._log.info("%sProgress: %s", self._name, text)
        self._told = text or self._told


def describe_progress(progress: tuple[float | None, str] | None) -> str:
    """``40 %, epoch 4``; empty where the job told nothing."""
    if progress is None:
        return ""
    fraction, words = progress
    words = " ".join(words.split())[:200]
    percent = "" if fraction is None else f"{fraction * 100:.0f} %"
    return ", ".join(part for part in (percent, words) if part)
