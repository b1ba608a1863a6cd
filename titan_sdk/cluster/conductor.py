"""Performs what the scheduler decides, and tells it what the engine reports."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable

from titan_sdk.cluster.engines.base import Engine, RunRequest, RunResult
from titan_sdk.cluster.engines.staging import SERVICES
from titan_sdk.cluster.scheduler import Effect, Ended, Kill, Outcome, Requeued, Start
from titan_sdk.cluster.scheduler.job import Phase
from titan_sdk.cluster.services import Services
from titan_sdk.cluster.state import State
from titan_sdk.cluster.store.base import StoreFailed
from titan_sdk.cluster.store.changes import (
    AddHistory,
    Change,
    ForgetHandles,
    SetGone,
    SetPending,
    SetPlaced,
    SetRunning,
)
from titan_sdk.cluster.store.journal import RETRY_SECONDS
from titan_sdk.model.status import JobStatus

__all__ = ["Conductor", "run_name"]

log = logging.getLogger(__name__)


def run_name(seq: int, attempt: int) -> str:
    """A name for a run that no other run has or had."""
    return f"{seq}.{attempt}.{secrets.token_hex(6)}"


class Conductor:
    """Implements ``Reports``. ``connect`` completes it: engine and services need it to be made."""

    engine: Engine
    services: Services

    def __init__(self, state: State, loop: asyncio.AbstractEventLoop) -> None:
        self._state = state
        self._loop = loop
        self._runs: dict[str, str] = {}
        """The current run of each running job."""
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._closing = False
        self._quiet = asyncio.Event()

    def connect(self, engine: Engine, services: Services) -> None:
        self.engine = engine
        self.services = services

    # ------------------------------------------------------------------ effects

    def perform(self, effects: Iterable[Effect], code: int | None = None, code_of: str = "") -> None:
        """Do what the scheduler decided. ``code`` is the exit code of the run of ``code_of`` that led to it."""
        for effect in effects:
            if isinstance(effect, Start):
                self._start(effect)
            elif isinstance(effect, Kill):
                self._kill(effect.job_id)
            elif isinstance(effect, Requeued):
                self._requeued(effect, code)
            else:
                own = effect.job_id == code_of
                self._ended(effect, code if own else None, gone=own)
        self._arm()

    def running(self) -> list[str]:
        """Jobs that run now, services left out."""
        return list(self._runs)

    async def idle(self) -> None:
        """Wait until no job runs."""
        while self._runs:
            self._quiet.clear()
            await self._quiet.wait()

    def take_over(self, request: RunRequest, handle: str) -> None:
        """Watch a job's run that an earlier master started; the scheduler has adopted it."""
        self._runs[request.job_id] = request.run
        self._state.activity.started(request.worker, request.job_id, self._state.clock.now())
        self._state.record_event(request.job_id, "taken over", "the master was restarted")
        self.engine.reattach(request, handle)

    def finish_off(self, request: RunRequest, handle: str) -> None:
        """End what an earlier master was ending: the run of a job that has its end already."""
        self.engine.reattach(request, handle)
        self.engine.kill(request.run)

    async def close(self) -> None:
        """Kill every run, unless the engine keeps them; jobs that were running are queued again by the next master."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self.services.close()
        await self.engine.close()
        if self.engine.keeps_runs:
            return
        scheduler, now = self._state.scheduler, self._state.clock.now()
        stopped: list[Change] = [ForgetHandles()]
        for job_id in self._runs:
            job = scheduler.get(job_id)
            if job is not None:
                seq, why = job.spec.seq, "the master was stopped"
                stopped += [
                    SetPending(seq, job.attempt - 1, None),
                    AddHistory(job_id, seq, now, "queued again", why),
                ]
        self._state.store.journal.record(*stopped)

    def abandon(self) -> None:
        """Decide nothing more, and end nothing."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self.services.close()

    def _tick(self) -> None:
        self._due = None
        self.perform(self._state.scheduler.tick(self._state.clock.now()))

    def _arm(self) -> None:
        """Come back when the next delayed job is due."""
        due = self._state.scheduler.next_due()
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = due
        if due is not None and not self._closing:
            self._timer = self._loop.call_later(max(due - self._state.clock.now(), 0.0), self._tick)

    def _start(self, effect: Start) -> None:
        job = self._state.scheduler.get(effect.job_id)
        if job is None:
            return
        try:
            line = self._state.line(job)
        except StoreFailed as exc:
            log.error("what was submitted for job %s cannot be read: %s", job.job_id, exc)
            self._loop.call_later(RETRY_SECONDS, self._start_again, job.job_id, str(exc))
            return
        seq, attempt = job.spec.seq, effect.attempt
        if not self.engine.chooses_places:
            self._state.activity.started(effect.worker, job.job_id, self._state.clock.now())
        if job.spec.service:
            self.services.deploy(line, effect.worker, lambda: run_name(seq, 0), near=effect.near)
            return
        run = self._runs[job.job_id] = run_name(seq, attempt)
        self.engine.start(RunRequest(run, line, effect.worker, attempt, effect.near))

    def _start_again(self, job_id: str, reason: str) -> None:
        """Nothing of that run has begun; it holds its slot until now, also if the job was cancelled meanwhile."""
        if self._closing:
            return
        now = self._state.clock.now()
        self.perform(self._state.scheduler.exited(job_id, Outcome.INTERRUPTED, reason, now))

    def _kill(self, job_id: str) -> None:
        if job_id in self.services:
            self.services.stop(job_id)
        elif job_id in self._runs:
            self.engine.kill(self._runs[job_id])

    def _requeued(self, effect: Requeued, code: int | None) -> None:
        now = self._state.clock.now()
        self._state.store.journal.record(
            SetPending(effect.seq, effect.attempts, code),
            AddHistory(effect.job_id, effect.seq, now, "queued again", effect.reason),
        )

    def _ended(self, effect: Ended, code: int | None, *, gone: bool) -> None:
        self._state.record_end(effect, code, gone)
        if effect.status is JobStatus.DEAD and not effect.ran:
            self._state.note(effect.job_id, f"{effect.job_id} never ran: {effect.reason}")

    # ------------------------------------------------------------------ reports

    def launched(self, request: RunRequest, handle: str) -> None:
        """See ``Reports``."""
        job_id, attempt, now = request.job_id, request.attempt, self._state.clock.now()
        seq = self._state.number(job_id)
        log.info(
            "job %s started on %s", job_id, request.worker, extra={"job": job_id, "worker": request.worker}
        )

        def stored() -> None:
            self.engine.release(request.run)
            if request.line.header in SERVICES:
                self.services.released(request)

        running = SetRunning(seq, request.worker, request.run, handle, attempt, now)
        if self.engine.chooses_places:
            # It starts when it is placed.
            self._state.store.journal.record(running, then=stored)
            return
        started = AddHistory(job_id, seq, now, "started", f"run {attempt} on {request.worker}")
        self._state.store.journal.record(running, started, then=stored)

    def placed(self, request: RunRequest, place: str) -> None:
        """See ``Reports``."""
        job_id, now = request.job_id, self._state.clock.now()
        seq = self._state.number(job_id)
        self._state.scheduler.placed(job_id, place)
        self._state.activity.started(place, job_id, now)
        self.services.placed(request, place)
        self._state.store.journal.record(
            SetPlaced(seq, place, now),
            AddHistory(job_id, seq, now, "started", f"run {request.attempt} on {place}"),
        )

    def exited(self, request: RunRequest, result: RunResult) -> None:
        """See ``Reports``."""
        job_id, seq, concluded = request.job_id, self._state.number(request.job_id), False
        self._state.logs.ended(job_id)
        if request.line.header in SERVICES:
            self.services.exited(request, result)
        else:
            job = self._state.scheduler.get(job_id)
            # Of a cancelled job the end was stored before; of any other, what follows is stored with it.
            concluded = job is not None and job.phase is Phase.RUNNING
            self._runs.pop(job_id, None)
            if not self._runs:
                self._quiet.set()
            if result.outcome is Outcome.FATAL and result.exit_code is None:
                self._state.note(job_id, f"{job_id} cannot run: {result.reason}")
            now = self._state.clock.now()
            effects = self._state.scheduler.exited(job_id, result.outcome, result.reason, now)
            self.perform(effects, result.exit_code, job_id)

        def stored() -> None:
            self.engine.clean(request.run, request.worker)

        # Of a concluded run, what is to be stored is in another entry of the same turn.
        gone = () if concluded else (SetGone(seq, request.run),)
        self._state.store.journal.record(*gone, then=stored)
