"""The trigger of deferred Titan tasks: asynchronous client only, one event, everything it needs in its arguments.

Rules for editing. Arguments lie in Airflow's database in plain text: ids, never secrets. A triggerer may die and
another start :meth:`TitanJobTrigger.run` again at any moment, so deadlines are wall-clock times and nothing but the
position in the log is remembered, in TitanStore. ``cleanup`` runs at every triggerer restart and must not cancel.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.hooks.titan import TitanHook
from titan_provider.joblog import JobLog, LogCursor
from titan_provider.masking import amask_env
from titan_provider.triggers.base import (
    TitanTrigger,
    TriggerEvent,
    logs_take_timestamps,
    triggerer_calls_on_kill,
)
from titan_provider.triggers.board import Watch
from titan_provider.triggers.killing import finish_kill, killed_state, warm_up
from titan_provider.triggers.passing import lines_passed_on
from titan_provider.triggers.poller import SharedMaster, lease
from titan_provider.waiting import LOG_CHUNKS, REASON_EVERY, Lease, Patience, ProgressLines, tell_wait
from titan_sdk import AsyncTitanClient, ClientConfig, JobStatus, LogPage, NotFound, TitanError

__all__ = ["TitanJobTrigger"]

T = TypeVar("T")

_QUIETEST = 10.0  # seconds between two looks for new lines of a job that has printed none for a while
_SAVE_LIMIT = 3.0  # seconds; the position in the log is worth no longer delay of a triggerer that stops


class TitanJobTrigger(TitanTrigger):
    """Waits for one job, copies its log into the task log, and fires once.

    :param job_id: the job
    :param requirement: tag of the worker it needs, to explain why it waits
    :param deadline: unix time at which the job is cancelled
    :param placement_deadline: unix time at which it is cancelled if it has never started
    :param unreachable_timeout: seconds for which the master may be silent
    :param cancel_on_kill: cancel the job when the task is killed, cleared or marked
    :param nonce: names the submission; read from the master where it is not given
    :param owner_lease: seconds after which the job ends unless its lease is renewed here
    :param master: address of the master that has the job, where the connection has been edited since
    :param log_key: where in TitanStore the position in the log is kept; made here, new for every deferral
    """

    def __init__(
        self,
        titan_conn_id: str,
        job_id: str,
        requirement: str = "GENERAL",
        poll_interval: float = 2.0,
        deadline: float | None = None,
        placement_deadline: float | None = None,
        unreachable_timeout: float = 300.0,
        cancel_on_kill: bool = True,
        nonce: str | None = None,
        owner_lease: float | None = None,
        log_key: str | None = None,
        master: str = "",
    ) -> None:
        super().__init__()
        self.titan_conn_id = titan_conn_id
        self.job_id = job_id
        self.requirement = requirement
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.placement_deadline = placement_deadline
        self.unreachable_timeout = unreachable_timeout
        self.cancel_on_kill = cancel_on_kill
        self.nonce = nonce
        self.owner_lease = owner_lease
        self.master = master
        self.log_key = log_key or f"titan:airflow:log:{job_id}:{secrets.token_hex(4)}"
        self._patience = Patience(unreachable_timeout)
        self._lease = Lease(owner_lease)
        self._quiet = poll_interval
        self._status = JobStatus.UNKNOWN
        self._joblog = JobLog(self.log)
        self._progress = ProgressLines(self.log)
        self._reason, self._reason_at = "", float("-inf")
        self._fired = False
        self._asked = master
        self._has_started = False
        self._saved = LogCursor()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event when the job is over, or when waiting for it is."""
        event = await self._watch()
        await lines_passed_on()
        self._fired = True
        yield TriggerEvent(event.to_dict())  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the job when a person killed, cleared or marked the task.

        Airflow also calls this when it moves a trigger to another triggerer. The task is then still deferred, and
        its job must live.
        """
        if not self._fired and self.cancel_on_kill:
            await finish_kill(self, f"job {self.job_id}", self._cancel_if_killed())

    async def _cancel_if_killed(self) -> None:
        state = await killed_state(self, f"job {self.job_id}")
        if state is None:
            return
        try:
            config = await self._config()
            async with AsyncTitanClient(config=config) as client:
                status = await client.cancel_job(self.job_id)
        except TitanError as exc:
            self.log.error("Job %s could not be cancelled and may still be running: %s", self.job_id, exc)
        else:
            self.log.info("Task is %s: cancelled job %s; it is %s", state, self.job_id, status)

    async def cleanup(self) -> None:
        """Before Airflow 3.3 the only sign of a kill; since then nothing to do."""
        if not triggerer_calls_on_kill:
            await self.on_kill()

    async def _config(self) -> ClientConfig:
        return await TitanHook(self.titan_conn_id, master=self.master).get_config_of(self.job_id)

    # -- waiting --------------------------------------------------------------------------------------------

    async def _watch(self) -> JobEvent:
        warm_up(self)
        try:
            config = await self._config()
            self._asked = config.address
            async with lease(config) as master:
                try:
                    async with asyncio.timeout(self._seconds_left()) as limit:
                        return await self._wait(master)
                except TimeoutError:
                    if not limit.expired():
                        raise
                    return await self._give_up(master, Outcome.TIMED_OUT, "execution_timeout was over")
        except TitanMasterUnreachable as exc:
            return self._event(Outcome.UNREACHABLE, str(exc))
        except Exception as exc:
            self.log.exception("Waiting for job %s failed", self.job_id)
            return self._event(
                Outcome.FAILED, f"waiting for job {self.job_id!r} failed: {type(exc).__name__}: {exc}"
            )

    async def _wait(self, master: SharedMaster) -> JobEvent:
        saved = await self._ask(master, lambda client: client.store_get(self.log_key))
        self._saved = LogCursor.from_text(saved) or self._saved
        self._has_started = self._saved.position > 0
        await amask_env(self._saved.env)
        self._joblog = JobLog(self.log, self._saved, dated=logs_take_timestamps)
        self._progress = ProgressLines(self.log)
        began = asyncio.get_running_loop().time()
        with master.board.watch(self.job_id, self.poll_interval, self.nonce) as watch:
            try:
                while (event := await self._turn(master, watch)) is None:
                    master.insist(self.unreachable_timeout, began)
            except asyncio.CancelledError:
                # The triggerer stops: the trigger that goes on elsewhere starts from here.
                await self._save_cursor(master)
                raise
            return event

    async def _turn(self, master: SharedMaster, watch: Watch) -> JobEvent | None:
        """Do what there is to do, then wait for news; the event, when waiting is over."""
        if self._lease.is_due():
            await self._ask(master, lambda client: client.renew_owner_lease(self.job_id, nonce=self.nonce))
        if watch.status is JobStatus.UNKNOWN:
            await watch.news(self._doubt() if watch.answered else 1.0)
            return None
        self._patience.succeeded()
        self._status = watch.status
        if self._status is JobStatus.PENDING:
            await self._explain_wait(master)
            if self._until_placement() <= 0:
                why = f"not started within placement_timeout: {self._reason}"
                return await self._give_up(master, Outcome.NOT_PLACED, why)
            pause = REASON_EVERY
        else:
            self._has_started = True
            copied = await self._copy_log(master)
            if self._status.is_terminal:
                self._joblog.finish()
                return self._event(Outcome.ENDED)
            await self._tell_progress(master)
            self._quiet = self.poll_interval if copied else min(self._quiet * 1.5, _QUIETEST)
            pause = max(self._quiet, self.poll_interval)
        await watch.news(min(master.paced(pause), self._lease.pause, max(self._until_placement(), 0.01)))
        return None

    def _doubt(self) -> float:
        """Seconds to wait for a better answer than that nobody knows the job."""
        # A Titan master also answers this while its store is down, so it is believed only after a while.
        pause = self._patience.failed(NotFound(f"the master does not know the job {self.job_id!r}"))
        if self._patience.is_first_failure:
            self.log.warning("The master does not know the job %s; asking again", self.job_id)
        return pause

    async def _copy_log(self, master: SharedMaster) -> bool:
        """One page, so that a job that prints without end does not keep the others waiting; at the end all."""
        copied = False
        while not self._joblog.is_full:
            until = self._joblog.interrupted
            page = await self._read_page(master, until)
            if until is None:
                await lines_passed_on()  # the cursor counts the lines of the page before
                if not self._joblog.begin(page, time.time()):
                    break
                await self._save_cursor(master)
            copied = self._joblog.take(page)
            if not copied or not self._status.is_terminal:
                break
        return copied

    async def _read_page(self, master: SharedMaster, until: int | None) -> LogPage:
        position = self._joblog.cursor.position
        return await self._ask(
            master,
            lambda client: client.read_logs(
                self.job_id, nonce=self.nonce, position=position, chunks=LOG_CHUNKS, until=until
            ),
        )

    async def _save_cursor(self, master: SharedMaster) -> None:
        cursor = self._joblog.cursor
        if cursor == self._saved:
            return  # thousands of triggers that stop together, most of them of quiet jobs
        try:
            async with asyncio.timeout(_SAVE_LIMIT):
                await lines_passed_on()  # or the next trigger writes the last page again, as the same records
                await master.once(lambda client: client.store_put(self.log_key, cursor.to_text()))
        except (TitanError, TimeoutError) as exc:
            self.log.debug("The position in the log of job %s could not be saved: %s", self.job_id, exc)
        else:
            self._saved = cursor

    async def _explain_wait(self, master: SharedMaster) -> None:
        if time.monotonic() - self._reason_at < REASON_EVERY:
            return
        stats = await master.stats(self.unreachable_timeout)
        self._reason = tell_wait(self.log, f"job {self.job_id}", stats, self.requirement, self._reason)
        self._reason_at = time.monotonic()

    async def _tell_progress(self, master: SharedMaster) -> None:
        if self._progress.is_due():
            report = await self._ask(master, lambda client: client.job_report(self.job_id, nonce=self.nonce))
            self._progress.tell(report.progress)

    async def _ask(self, master: SharedMaster, request: Callable[[AsyncTitanClient], Awaitable[T]]) -> T:
        return await master.ask(request, self.unreachable_timeout)

    async def _give_up(self, master: SharedMaster, outcome: Outcome, why: str) -> JobEvent:
        try:
            self._status = await master.once(lambda client: client.cancel_job(self.job_id))
        except TitanError as exc:
            return self._event(
                outcome, f"{why}; job {self.job_id!r} must end, but could not be cancelled: {exc}"
            )
        return self._event(outcome, f"{why}; job {self.job_id!r} was cancelled")

    def _event(self, outcome: Outcome, message: str = "") -> JobEvent:
        cursor = self._joblog.cursor
        return JobEvent(
            outcome, {self.job_id: self._status}, cursor.position, cursor.lines, message, master=self._asked
        )

    def _seconds_left(self) -> float | None:
        return None if self.deadline is None else max(self.deadline - time.time(), 0.0)

    def _until_placement(self) -> float:
        """Seconds; without end for a job that has started, which may wait before another attempt."""
        if self.placement_deadline is None or self._has_started:
            return math.inf
        return self.placement_deadline - time.time()
