"""The wait for the jobs of one task, their logs copied meanwhile; the same code in a task and in a triggerer.

A task of one job gets its lines as they come. Those of several jobs come as foldable groups: one at a job's end and, while
it runs, one for what it printed since the last, so that groups of jobs that run side by side do not mix. How a restarted
triggerer avoids repeats: ``joblog.py``.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from titan_provider.exceptions import TitanPlacementTimedOut
from titan_provider.triggers.compat import log_delivered
from titan_provider.triggers.shared_client import SharedClient
from titan_provider.triggers.status_poller import WatchedJob, wait_for_own
from titan_provider.work.joblog import JobLog, LogCursor, Logger, amask_env
from titan_provider.work.plan import KnownJob, blocked_jobs
from titan_provider.work.waiting import (
    GROWTH,
    LOG_CHUNKS,
    REASON_EVERY,
    OwnerLease,
    Pace,
    Patience,
    ProgressLines,
    tell_wait,
    why_waiting,
)
from titan_sdk import AsyncTitanClient, JobStatus, LogPage, NotFound, TitanError

__all__ = ["WorkWatch"]

T = TypeVar("T")

_QUIETEST = 10.0
"""Seconds between two looks of a trigger for new lines, where nothing has been printed for a while."""
_SAVE_LIMIT = 3.0
"""Seconds. The positions in the logs are worth no longer delay of a triggerer that stops."""


class WorkWatch:
    """The jobs of one task until each of them has ended or can never run.

    :param jobs: by name; a parent that is not among them has completed earlier
    :param log_interval: seconds between two groups of one job that goes on printing; None for a task of one job, whose
        lines are copied as they come, and of which nothing else is told that the task does not tell itself
    :param placement_timeout: seconds for which a job may wait for a worker once its parents have completed
    :param placement_deadline: in its place, the unix time until which a job may wait
    :param owner_lease: seconds after which the job of such a task ends unless its lease is renewed here
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
        self._lease = OwnerLease(owner_lease)
        self._dated = dated
        self._log_key = log_key
        self._watches: dict[str, WatchedJob] = {}
        self._news = asyncio.Event()
        self._pace, self._quiet = Pace(poll_interval), poll_interval
        self._patience = Patience(unreachable_timeout)
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
        self._saved = self._positions()
        self.statuses = dict.fromkeys(jobs, JobStatus.UNKNOWN)
        """The last known state, by name."""

    @property
    def copied(self) -> LogCursor:
        """How far the log of the first job is copied."""
        return next(iter(self._logs.values())).cursor

    @property
    def is_whole(self) -> bool:
        """Whether all that the jobs printed is in the log, once they have ended."""
        return not any(joblog.is_full for joblog in self._logs.values())

    async def run(self, master: SharedClient) -> None:
        """Return when nothing more can happen to any of the jobs.

        :raises TitanMasterUnreachable: the master was silent for too long
        :raises TitanPlacementTimedOut: a job found no worker in time; nothing is cancelled yet
        """
        await self._restore(master)
        began = asyncio.get_running_loop().time()
        try:
            with ExitStack() as stack:
                self._watches = {
                    name: stack.enter_context(
                        master.poller.watch(job.job_id, self._poll_interval, job.nonce, self._news)
                    )
                    for name, job in self._jobs.items()
                }
                while True:
                    master.insist(self._unreachable_timeout, began)
                    await self._renew_lease(master)
                    pause = await self._turn(master)
                    if self._is_over():
                        return
                    await wait_for_own(self._news, master.paced(pause))
        except asyncio.CancelledError:
            # The triggerer stops: the trigger that goes on elsewhere starts from here.
            await self._save_quickly(master)
            raise

    def _is_over(self) -> bool:
        blocked = blocked_jobs(self._jobs, self.statuses)
        return all(status.is_terminal or name in blocked for name, status in self.statuses.items())

    async def _turn(self, master: SharedClient) -> float:
        """Look at everything once; seconds until the next time, if nothing happens to the jobs."""
        if await self._read_statuses(master):
            self._pace.restart()
        copied = False
        for name, status in self.statuses.items():
            if status.is_terminal or status is JobStatus.RUNNING:
                copied = await self._copy_log(master, name) or copied
            if status is JobStatus.RUNNING:
                await self._tell_progress(master, name)
        waiting = self._waiting_for_a_worker()
        await self._explain(master, waiting)
        left = await self._until_placement(master, waiting)
        return min(self._pause(copied), self._lease.pause, max(left, 0.01))

    def _pause(self, copied: bool) -> float:
        if JobStatus.RUNNING not in self.statuses.values():
            return REASON_EVERY
        if self._log_key is None:
            return self._pace.next()
        self._quiet = self._poll_interval if copied else min(self._quiet * GROWTH, _QUIETEST)
        return max(self._quiet, self._poll_interval)

    async def _renew_lease(self, master: SharedClient) -> None:
        if self._lease.is_due():
            for job in self._jobs.values():
                await self._ask(
                    master,
                    lambda client, job=job: client.renew_owner_lease(job.job_id, nonce=job.nonce or None),  # type: ignore[misc]
                )

    # -- states ---------------------------------------------------------------------------------------------

    async def _read_statuses(self, master: SharedClient) -> bool:
        """What the board has heard; whether that was new."""
        began = asyncio.get_running_loop().time()
        while unknown := [watch for watch in self._watches.values() if watch.status is JobStatus.UNKNOWN]:
            master.insist(self._unreachable_timeout, began)
            await self._renew_lease(master)
            answered = [watch.job_id for watch in unknown if watch.answered]
            if not answered:
                await wait_for_own(self._news, 1.0)
                continue
            # A Titan master also answers this while its store is down, so it is believed only after a while.
            names = f"the job {answered[0]!r}" if self._is_alone else ", ".join(map(repr, answered[:5]))
            pause = self._patience.failed(NotFound(f"the master does not know {names}"))
            if self._patience.is_first_failure:
                self._log.warning("The master does not know the job %s; asking again", answered[0])
            await wait_for_own(self._news, min(pause, self._lease.pause))
        self._patience.succeeded()
        changed = False
        for name, watch in self._watches.items():
            status = watch.status
            if status is not self.statuses[name]:
                changed = True
                if not status.is_terminal and not self._is_alone:
                    self._say("Job %s is %s", name, status)
                self.statuses[name] = status
            if status is JobStatus.RUNNING:
                self._started.add(name)
        return changed

    def _waiting_for_a_worker(self) -> list[str]:
        blocked = blocked_jobs(self._jobs, self.statuses)
        return [
            name
            for name, job in self._jobs.items()
            if self.statuses[name] is JobStatus.PENDING
            and name not in blocked
            and all(self.statuses[p].is_success for p in job.parents if p in self._jobs)
        ]

    async def _until_placement(self, master: SharedClient, waiting: list[str]) -> float:
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
                await log_delivered()
                await self._save(master)
            late = {name: self._ready_at[name] + limit for name in waiting}
        first = min(late, key=late.__getitem__)
        if late[first] <= now:
            raise await self._not_placed(master, first)
        return late[first] - now

    async def _not_placed(self, master: SharedClient, name: str) -> TitanPlacementTimedOut:
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

    async def _explain(self, master: SharedClient, waiting: list[str]) -> None:
        if not waiting or time.monotonic() - self._reason_at < REASON_EVERY:
            return
        stats = await master.stats(self._unreachable_timeout)
        for name in waiting:
            told = self._reasons.get(name, "")
            self._reasons[name] = tell_wait(
                self._log, f"job {name}", stats, self._jobs[name].requirement, told
            )
            self._last_time = time.time()
        self._reason_at = time.monotonic()

    async def _tell_progress(self, master: SharedClient, name: str) -> None:
        if not self._progress[name].is_due():
            return
        job = self._jobs[name]
        report = await self._ask(master, lambda client: client.job_report(job.job_id, nonce=job.nonce))
        self._progress[name].tell(report.progress)
        self._last_time = time.time()

    def _say(self, words: str, *values: object) -> None:
        self._last_time = time.time()
        self._log.info(words, *values)

    # -- logs -----------------------------------------------------------------------------------------------

    async def _copy_log(self, master: SharedClient, name: str) -> bool:
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
                await log_delivered()  # the positions count the lines of the pages before
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
                    await log_delivered()
                    await self._save(master)
        return copied

    async def _tell_end(self, master: SharedClient, name: str) -> None:
        job = self._jobs[name]
        report = await self._ask(master, lambda client: client.job_report(job.job_id))
        self._progress[name].tell(report.progress)
        self._say("%s", replace(report, job_id=name).describe())

    async def _read(self, master: SharedClient, name: str, until: int | None) -> LogPage:
        job, position = self._jobs[name], self._logs[name].cursor.position
        return await self._ask(
            master,
            lambda client: client.read_logs(
                job.job_id, nonce=job.nonce, position=position, chunks=LOG_CHUNKS, until=until
            ),
        )

    def _joblog(self, name: str, cursor: LogCursor | None = None) -> JobLog:
        group = "" if self._is_alone else f"Log of job {name}"
        return JobLog(self._log, cursor, dated=self._dated, group=group)

    # -- positions ------------------------------------------------------------------------------------------

    async def _restore(self, master: SharedClient) -> None:
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

    async def _save(self, master: SharedClient) -> None:
        key, text = self._log_key, self._positions()
        if key is not None and text != self._saved:
            await self._ask(master, lambda client: client.store_put(key, text))
            self._saved = text

    async def _save_quickly(self, master: SharedClient) -> None:
        key, text = self._log_key, self._positions()
        if key is None or text == self._saved:
            return  # thousands of triggers that stop together, most of them of quiet jobs
        try:
            async with asyncio.timeout(_SAVE_LIMIT):
                await log_delivered()  # or the next trigger writes the last page again, as the same records
                await master.once(lambda client: client.store_put(key, text))
        except (TitanError, TimeoutError):
            pass  # the lines since the last save are then written again, as the same records

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

    async def _ask(self, master: SharedClient, request: Callable[[AsyncTitanClient], Awaitable[T]]) -> T:
        return await master.ask(request, self._unreachable_timeout)
