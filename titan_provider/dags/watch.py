"""The wait for the jobs of a Titan DAG, their logs copied as groups; the same code in a task and in a triggerer.

A job's lines come as foldable groups: one at the job's end and, while it runs, one for what it printed since the last,
so that groups of jobs that run side by side do not mix. How a restarted triggerer avoids repeats: ``joblog.py``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TypeVar

from titan_provider.dags.plan import KnownJob, blocked_jobs
from titan_provider.exceptions import TitanPlacementTimedOut
from titan_provider.joblog import JobLog, LogCursor, Logger
from titan_provider.triggers.board import Watch
from titan_provider.triggers.passing import lines_passed_on
from titan_provider.triggers.pauses import wait_for_own
from titan_provider.triggers.poller import SharedMaster
from titan_provider.waiting import (
    LOG_CHUNKS,
    REASON_EVERY,
    Pace,
    Patience,
    ProgressLines,
    tell_wait,
    why_waiting,
)
from titan_sdk import AsyncTitanClient, JobStatus, LogPage, NotFound, TitanError

__all__ = ["DagWatch"]

T = TypeVar("T")

_SAVE_LIMIT = 3.0  # seconds; the positions in the logs are worth no longer delay of a triggerer that stops


class DagWatch:
    """The jobs of one task until each of them has ended or can never run.

    :param jobs: by name; a parent that is not among them has completed earlier
    :param log_interval: seconds between two groups of one job that goes on printing
    :param placement_timeout: seconds for which a job may wait for a worker once its parents have completed
    :param dated: whether ``log`` takes a line's time as ``timestamp=``
    :param log_key: where in TitanStore the positions in the logs are kept; None for a wait that nobody resumes
    """

    def __init__(
        self,
        jobs: Mapping[str, KnownJob],
        log: Logger,
        *,
        poll_interval: float,
        log_interval: float,
        unreachable_timeout: float,
        placement_timeout: float | None = None,
        dated: bool = False,
        log_key: str | None = None,
    ) -> None:
        self._jobs = jobs
        self._watches: dict[str, Watch] = {}
        self._news = asyncio.Event()
        self._log = log
        self._poll_interval = poll_interval
        self._log_interval = log_interval
        self._unreachable_timeout = unreachable_timeout
        self._placement_timeout = placement_timeout
        self._dated = dated
        self._log_key = log_key
        self._patience = Patience(unreachable_timeout)
        self._logs = {name: JobLog(log, dated=dated, group=_group(name)) for name in jobs}
        self._progress = {name: ProgressLines(log, f"Job {name}") for name in jobs}
        self._copied_at = dict.fromkeys(jobs, float("-inf"))
        self._finished: set[str] = set()
        self._ready_at: dict[str, float] = {}
        """By name: the unix time at which a job was first seen to wait for nothing but a worker."""
        self._started: set[str] = set()
        """Jobs that have run: before another attempt they may wait as long as they have to."""
        self._reasons: dict[str, str] = {}
        self._reason_at = float("-inf")
        self._last_time = 0.0
        self.statuses = dict.fromkeys(jobs, JobStatus.UNKNOWN)
        """The last known state, by name."""

    async def run(self, master: SharedMaster) -> None:
        """Return when nothing more can happen to any of the jobs.

        :raises TitanMasterUnreachable: the master was silent for too long
        :raises TitanPlacementTimedOut: a job found no worker in time; nothing is cancelled yet
        """
        await self._restore(master)
        interval, news, pace = self._poll_interval, self._news, Pace(self._poll_interval)
        began = asyncio.get_running_loop().time()
        try:
            with ExitStack() as stack:
                self._watches = {
                    name: stack.enter_context(master.board.watch(job.job_id, interval, job.nonce, news))
                    for name, job in self._jobs.items()
                }
                while True:
                    master.insist(self._unreachable_timeout, began)
                    if await self._turn(master):
                        pace.restart()
                    if self._is_over():
                        return
                    await wait_for_own(news, master.paced(pace.next()))
        except asyncio.CancelledError:
            # The triggerer stops: the trigger that goes on elsewhere starts from here.
            await self._save_quickly(master)
            raise

    def _is_over(self) -> bool:
        blocked = blocked_jobs(self._jobs, self.statuses)
        return all(status.is_terminal or name in blocked for name, status in self.statuses.items())

    async def _turn(self, master: SharedMaster) -> bool:
        """Look at everything once; whether any job's state was new."""
        changed = await self._read_statuses(master)
        for name, status in self.statuses.items():
            if status.is_terminal or status is JobStatus.RUNNING:
                await self._copy_log(master, name)
            if status is JobStatus.RUNNING:
                await self._tell_progress(master, name)
        ready = self._waiting_for_a_worker()
        await self._explain(master, ready)
        await self._check_placement(master, ready)
        return changed

    # -- states ---------------------------------------------------------------------------------------------

    async def _read_statuses(self, master: SharedMaster) -> bool:
        """What the board has heard; whether that was new."""
        began = asyncio.get_running_loop().time()
        while unknown := [w for w in self._watches.values() if w.status is JobStatus.UNKNOWN]:
            master.insist(self._unreachable_timeout, began)
            answered = [watch.job_id for watch in unknown if watch.answered]
            if not answered:
                await wait_for_own(self._news, 1.0)
                continue
            # A Titan master also answers this while its store is down, so it is believed only after a while.
            pause = self._patience.failed(
                NotFound(f"the master does not know {', '.join(map(repr, answered[:5]))}")
            )
            if self._patience.is_first_failure:
                self._log.warning("The master does not know the job %s; asking again", answered[0])
            await wait_for_own(self._news, pause)
        self._patience.succeeded()
        changed = False
        for name, watch in self._watches.items():
            status = watch.status
            if status is not self.statuses[name]:
                changed = True
                if not status.is_terminal:
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

    async def _check_placement(self, master: SharedMaster, waiting: list[str]) -> None:
        limit, now = self._placement_timeout, time.time()
        waiting = [name for name in waiting if name not in self._started]
        if limit is None or not waiting:
            return
        if fresh := [name for name in waiting if name not in self._ready_at]:
            self._ready_at |= dict.fromkeys(fresh, now)
            await lines_passed_on()
            await self._save(master)
        late = [name for name in waiting if now - self._ready_at[name] >= limit]
        if late:
            reason = why_waiting(
                await master.stats(self._unreachable_timeout), self._jobs[late[0]].requirement
            )
            raise TitanPlacementTimedOut(
                f"job {late[0]!r} had not started {limit:g} s after its parents had completed: {reason}; "
                f"all {len(self._jobs)} jobs of the task were told to end"
            )

    async def _explain(self, master: SharedMaster, waiting: list[str]) -> None:
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

    async def _tell_progress(self, master: SharedMaster, name: str) -> None:
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

    async def _copy_log(self, master: SharedMaster, name: str) -> None:
        over = self.statuses[name].is_terminal
        if name in self._finished or (
            not over and time.monotonic() - self._copied_at[name] < self._log_interval
        ):
            return
        self._copied_at[name] = time.monotonic()
        joblog, first = self._logs[name], True
        while not joblog.is_full:
            until = joblog.interrupted
            page = await self._read(master, name, until)
            if page.position == joblog.cursor.position:
                break
            if until is None:
                # Groups follow each other: Airflow orders lines by their times.
                joblog.cursor = replace(joblog.cursor, dated=max(self._last_time, joblog.cursor.dated))
                await lines_passed_on()  # the positions count the lines of the pages before
                joblog.begin(page, time.time())
                await self._save(master)
            is_last = over and page.position - joblog.cursor.position < LOG_CHUNKS
            joblog.take(page, last=is_last)
            self._last_time = max(self._last_time, joblog.cursor.dated)
            first = False
            if not over:
                break
        if over:
            joblog.finish()
            self._finished.add(name)
            report = await self._ask(master, lambda client: client.job_report(self._jobs[name].job_id))
            self._progress[name].tell(report.progress)
            self._say("%s", replace(report, job_id=name).describe())
            if not first:
                await lines_passed_on()
                await self._save(master)

    async def _read(self, master: SharedMaster, name: str, until: int | None) -> LogPage:
        job, position = self._jobs[name], self._logs[name].cursor.position
        return await self._ask(
            master,
            lambda client: client.read_logs(
                job.job_id, nonce=job.nonce, position=position, chunks=LOG_CHUNKS, until=until
            ),
        )

    async def _restore(self, master: SharedMaster) -> None:
        key = self._log_key
        text = await self._ask(master, lambda client: client.store_get(key)) if key else None
        saved = json.loads(text) if text else {"cursors": {}, "finished": []}
        for name, cursor in saved["cursors"].items():
            self._logs[name] = JobLog(
                self._log, LogCursor.from_text(cursor), dated=self._dated, group=_group(name)
            )
        self._finished |= set(saved["finished"])
        self._ready_at |= saved.get("ready", {})
        self._started |= set(saved.get("started", ()))

    async def _save(self, master: SharedMaster) -> None:
        if self._log_key is not None:
            key, text = self._log_key, self._positions()
            await self._ask(master, lambda client: client.store_put(key, text))

    async def _save_quickly(self, master: SharedMaster) -> None:
        if self._log_key is None:
            return
        key, text = self._log_key, self._positions()
        try:
            async with asyncio.timeout(_SAVE_LIMIT):
                await lines_passed_on()
                await master.once(lambda client: client.store_put(key, text))
        except (TitanError, TimeoutError):
            pass  # the lines since the last save are then written again, as the same records

    def _positions(self) -> str:
        started = {
            n: joblog for n, joblog in self._logs.items() if joblog.cursor.position or joblog.cursor.ahead
        }
        cursors = {name: joblog.cursor.to_text() for name, joblog in started.items()}
        return json.dumps(
            {
                "cursors": cursors,
                "finished": sorted(self._finished),
                "ready": self._ready_at,
                "started": sorted(self._started),
            }
        )

    async def _ask(self, master: SharedMaster, request: Callable[[AsyncTitanClient], Awaitable[T]]) -> T:
        return await master.ask(request, self._unreachable_timeout)


def _group(name: str) -> str:
    return f"Log of job {name}"
