"""Runs: each is one coroutine, from the scheduler's decision to the removal of its files.

    stage -> store where it runs -> run -> store how it ended -> forget

A run begins only after its place is stored, and its files are removed only after its end is stored. A restarted master
enters the coroutine in the middle, at ``reattach``. A service is the same coroutine in a loop, with a probe of its port.
Cancelling a task lets go of the run and does not end it; ``kill`` ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace

from titan_sdk.cluster.engines.base import (
    Engine,
    NoRoom,
    Process,
    RunRequest,
    RunResult,
    StagingFailed,
)
from titan_sdk.cluster.master.final_records import FinalRecords, is_failed_for_good, read_final_record
from titan_sdk.cluster.master.scheduler import Effect, Ended, Kill, Outcome, Requeued, Start
from titan_sdk.cluster.master.scheduler.jobs import Phase
from titan_sdk.cluster.master.services import Service, Services
from titan_sdk.cluster.master.state import State
from titan_sdk.cluster.store import rows
from titan_sdk.cluster.store.changes import (
    AddHistory,
    Change,
    SetGone,
    SetPending,
    SetPlaced,
    SetRunning,
    SetService,
    StoreFailed,
)
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.jobs import JobLine

__all__ = ["RESTART_SECONDS", "RETRY_SECONDS", "Run", "Runs", "run_name"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
RESTART_SECONDS = 3.0
"""Seconds before a service that was up is started again."""
_EARLY_RESTART_SECONDS = 0.5
_MAX_EARLY_EXITS = 4
_TOO_EARLY = "it was killed before it began"
_STOPPED = "the master was stopped"


def run_name(seq: int, attempt: int) -> str:
    """The unique name of a run."""
    return f"{seq}.{attempt}.{secrets.token_hex(6)}"


@dataclass(eq=False, slots=True)
class Run:
    """One run of a job."""

    request: RunRequest
    seq: int
    """The job's number."""
    process: Process | None = None
    """``None`` until it is staged."""
    halt: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the run must end, or must not begin."""
    last: tuple[Change, ...] = ()
    """The launcher's final record, stored together with the end."""
    for_good: bool = False
    """Whether it failed, and ``max_attempts`` rules out another run."""
    task: asyncio.Task[None] | None = None


class Runs:
    """Carries out the scheduler's effects, and reports the ends of runs to it.

    Args:
        start_seconds: the seconds within which a service's port must answer.
    """

    def __init__(
        self, state: State, engine: Engine, start_seconds: float, final_records: FinalRecords
    ) -> None:
        self.services = Services()
        self.final_records = final_records
        self._state = state
        self._engine = engine
        self._start_seconds = start_seconds
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[str, Run] = {}
        """The current run of each running job."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._closing = False

    # ------------------------------------------------------------------ decisions

    def perform(self, effects: Sequence[Effect], gone: str | None = None) -> None:
        """Perform the scheduler's effects. ``gone`` is the job whose run has no process left."""
        starts = [effect for effect in effects if isinstance(effect, Start)]
        for start in starts:
            # Starts come first, so that their coroutines share the commit of this turn.
            self._start(start)
        for effect in effects:
            if isinstance(effect, Kill):
                self._kill(effect.job_id)
            elif isinstance(effect, Requeued):
                self._requeued(effect)
            elif isinstance(effect, Ended):
                self._ended(effect, gone=effect.job_id == gone)
        self._wake_when_due()

    def _start(self, effect: Start) -> None:
        job = self._state.scheduler.jobs.get(effect.job_id)
        if job is None:
            return
        try:
            line = self._state.line(job)
        except StoreFailed as exc:
            log.error("the submission of job %s cannot be read: %s", job.job_id, exc)
            self._spawn(self._unreadable(job.job_id, str(exc)))
            return
        if not self._engine.chooses_places:
            self._state.activity.started(effect.worker, job.job_id, self._state.clock.now())
        if job.spec.service:
            service = Service(line, job.spec.seq, effect.worker, effect.near)
            service.failure = self._port_problem(service)
            self._serve(service, None)
            return
        name = run_name(job.spec.seq, effect.attempt)
        request = RunRequest(name, line, effect.worker, effect.attempt, effect.near)
        self._go(Run(request, job.spec.seq))

    async def _unreadable(self, job_id: str, reason: str) -> None:
        """End a run whose submission cannot be read. It holds its slot until the next attempt, even if it is cancelled."""
        await asyncio.sleep(RETRY_SECONDS)
        now = self._state.clock.now()
        self.perform(self._state.scheduler.exited(job_id, Outcome.INTERRUPTED, reason, now))

    def _kill(self, job_id: str) -> None:
        if job_id in self.services:
            self.stop_service(job_id)
        elif job_id in self._jobs:
            self._end(self._jobs[job_id])

    def _end(self, run: Run) -> None:
        run.halt.set()
        if run.process is not None:
            self._engine.kill(run.process)

    def _requeued(self, effect: Requeued) -> None:
        now = self._state.clock.now()
        self._state.store.journal.record(
            SetPending(effect.seq, effect.attempts, effect.code),
            AddHistory(effect.job_id, effect.seq, now, "queued again", effect.reason),
        )

    def _ended(self, effect: Ended, *, gone: bool) -> None:
        self._state.record_end(effect, gone)
        if effect.status is JobStatus.DEAD and not effect.ran:
            self._state.note(effect.job_id, f"{effect.job_id} never ran: {effect.reason}")

    def _wake_when_due(self) -> None:
        """Set the timer for the next delayed job."""
        due = self._state.scheduler.next_due()
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = due
        if due is not None and not self._closing:
            self._timer = self._loop.call_later(max(due - self._state.clock.now(), 0.0), self._tick)

    def _tick(self) -> None:
        self._due = None
        self.perform(self._state.scheduler.tick(self._state.clock.now()))

    # ------------------------------------------------------------------ the way of a run

    async def _job(self, run: Run) -> None:
        """A run of a job."""
        result = await self._until_gone(run)
        await self._state.logs.ended(run.request.job_id)
        job_id, scheduler = run.request.job_id, self._state.scheduler
        del self._jobs[job_id]
        if self._closing:
            result = RunResult(Outcome.INTERRUPTED, None, _STOPPED)
        if result.outcome is Outcome.FATAL and result.exit_code is None:
            how = "has ended" if run.for_good else "cannot run"
            self._state.note(job_id, f"{job_id} {how}: {result.reason}")
        job, now = scheduler.jobs.get(job_id), self._state.clock.now()
        is_concluded = job is not None and job.phase is Phase.RUNNING
        effects = scheduler.exited(job_id, result.outcome, result.reason, now, result.exit_code)
        self.perform(effects, gone=job_id)
        # The end of a cancelled job is already stored. Only the end of its process remains to be stored.
        await self._save(*run.last, *(() if is_concluded else (SetGone(run.seq, run.request.run),)))
        self._forget(run)

    async def _until_gone(self, run: Run, begun: Callable[[Process], None] | None = None) -> RunResult:
        """Stage the run, store its place, and run it; or follow it, if an earlier master started it."""
        if run.process is None:
            try:
                run.process = await self._staged(run)
            except StagingFailed as exc:
                return RunResult(exc.outcome, None, str(exc))
            if not run.halt.is_set():
                await self._save_start(run, run.process)
            if run.halt.is_set():
                return RunResult(Outcome.FAILURE, None, _TOO_EARLY)
            ended = self._engine.run(run.process, functools.partial(self._placed, run))
        else:
            ended = self._engine.reattach(run.process, functools.partial(self._placed, run))
        if begun is not None:
            begun(run.process)
        return await self._with_record(run, await ended)

    async def _with_record(self, run: Run, result: RunResult) -> RunResult:
        """Read the launcher's final record. It may rule out another run (``max_attempts``)."""
        end = read_final_record(result.record) if result.record else self.final_records.read(run.request.run)
        if end is not None:
            run.last = (end.change,)
        if result.outcome is not Outcome.FAILURE:
            return result
        run.for_good = (
            end.is_failed_for_good if end else await is_failed_for_good(self._state.store, run.request.job_id)
        )
        return replace(result, outcome=Outcome.FATAL) if run.for_good else result

    async def _staged(self, run: Run) -> Process:
        """``Engine.stage``, repeated until the machine has room for the run and no problem of its own."""
        is_told = False
        while not run.halt.is_set():
            try:
                return await self._engine.stage(run.request)
            except (NoRoom, OSError) as exc:
                if not is_told:
                    log.error("job %s waits: %s", run.request.job_id, exc)
                is_told = True
            await _pause(RETRY_SECONDS, run.halt)
        raise StagingFailed(_TOO_EARLY, Outcome.FAILURE)

    async def _save_start(self, run: Run, process: Process) -> None:
        request, now = run.request, self._state.clock.now()
        job_id, worker = request.job_id, request.worker
        log.info("job %s started on %s", job_id, worker, extra={"job": job_id, "worker": worker})
        changes: list[Change] = [
            SetRunning(run.seq, worker, request.run, process.handle, request.attempt, now)
        ]
        if not self._engine.chooses_places:
            detail = f"run {request.attempt} on {worker}"
            changes.append(AddHistory(job_id, run.seq, now, "started", detail))
        await self._save(*changes)

    def _placed(self, run: Run, place: str) -> None:
        """The run has begun at this place of its pool."""
        job_id, now = run.request.job_id, self._state.clock.now()
        self._state.scheduler.placed(job_id, place)
        self._state.activity.started(place, job_id, now)
        service = self.services.get(job_id)
        if service is not None:
            service.worker = place
        self._state.store.journal.record(
            SetPlaced(run.seq, place, now),
            AddHistory(job_id, run.seq, now, "started", f"run {run.request.attempt} on {place}"),
        )

    def _forget(self, run: Run) -> None:
        if run.process is not None:
            self._engine.forget(run.process)
        if run.last:
            self.final_records.forget(run.request.run)

    def _save(self, *changes: Change) -> asyncio.Future[None]:
        """A future that is done when these and all earlier changes are durable, however long that takes."""
        saved: asyncio.Future[None] = self._loop.create_future()

        def done() -> None:
            if not saved.done():
                saved.set_result(None)

        self._state.store.journal.record(*changes, then=done)
        return saved

    # ------------------------------------------------------------------ services

    def _port_problem(self, service: Service) -> str | None:
        problem = self.services.port_problem(service)
        return self._engine.port_problem(service.port) if problem is None and service.port else problem

    def _serve(self, service: Service, first: Run | None) -> None:
        service.process = None if first is None else first.process
        self.services.add(service)
        self._spawn(self._service(service, first))

    async def _service(self, service: Service, first: Run | None) -> None:
        """A service, from this master's first run of it to the last."""
        deadline = None
        if not service.up:
            deadline = self._loop.call_later(self._start_seconds, self._too_late, service)
        try:
            if service.failure is None:
                await self._keep_running(service, first)
        finally:
            if deadline is not None:
                deadline.cancel()
        if self._closing and not service.stopping:
            return  # the next master goes on with it
        self.services.remove(service)
        self._service_is_over(service)
        service.gone.set()

    async def _keep_running(self, service: Service, run: Run | None) -> None:
        """Run the service again and again, until it is stopped or fails."""
        while run is not None or not service.halt.is_set():
            run = run or self._next_run(service)
            result = await self._run_of_service(service, run)
            if service.halt.is_set():
                return
            if result.foreign:
                self._state.note(service.line.job_id, result.reason or "")
                service.stopping = True
                return
            how = result.reason or "it ended with exit code 0"
            if not service.up and result.outcome is not Outcome.INTERRUPTED:
                service.early_exits += 1
                if result.exit_code is None or service.early_exits >= _MAX_EARLY_EXITS:
                    service.failure = f"the service ended before it was up: {how}"
                    return
            delay = RESTART_SECONDS if service.up else _EARLY_RESTART_SECONDS
            self._state.note(service.line.job_id, f"{how}; the service is started again in {delay:g} s")
            run = None
            await _pause(delay, service.halt)

    def _next_run(self, service: Service) -> Run:
        service.starts += 1
        name = run_name(service.seq, 0)
        request = RunRequest(name, service.line, service.worker, service.starts, service.near)
        return Run(request, service.seq, halt=service.halt)

    async def _run_of_service(self, service: Service, run: Run) -> RunResult:
        """One run of a service, with a probe of its port until it is up."""
        probe: asyncio.Task[None] | None = None

        def begun(process: Process) -> None:
            nonlocal probe
            service.process = process
            if not service.up:
                probe = self._loop.create_task(self._probe(service, process))

        try:
            result = await self._until_gone(run, begun)
        finally:
            if probe is not None:
                probe.cancel()
            service.process = None
        await self._state.logs.ended(run.request.job_id)
        await self._save(*run.last, SetGone(run.seq, run.request.run))
        self._forget(run)
        return result

    async def _probe(self, service: Service, process: Process) -> None:
        if service.port:
            await self._engine.answers(process, service.port)
        if service.halt.is_set():
            return
        service.up = True
        job_id, now = service.line.job_id, self._state.clock.now()
        if self._state.scheduler.jobs.get(job_id) is not None:
            self._state.store.journal.record(SetService(service.seq, rows.ServiceState.LIVE))
            self.perform(self._state.scheduler.exited(job_id, Outcome.SUCCESS, None, now))

    def _too_late(self, service: Service) -> None:
        if service.up or service.halt.is_set():
            return
        service.failure = (
            f"its port {service.port} did not answer within {self._start_seconds:g} s; "
            "let the service listen there, or raise service_start_seconds"
        )
        self._halt(service)

    def _halt(self, service: Service) -> None:
        service.halt.set()
        if service.process is not None:
            self._engine.kill(service.process)

    def stop_service(self, job_id: str) -> asyncio.Event:
        """End a service with all its processes. The event is set when none is left."""
        service = self.services.get(job_id)
        assert service is not None, "the caller has looked"
        service.stopping = True
        self._halt(service)
        return service.gone

    def _service_is_over(self, service: Service) -> None:
        """Record the end of a service, of which no process is left."""
        job_id, now = service.line.job_id, self._state.clock.now()
        if service.stopping and service.up:
            self._state.store.journal.record(SetService(service.seq, rows.ServiceState.DEPLOYING))
            self._state.note(job_id, "the service was stopped")
            return
        reason = "it was stopped"
        if not service.stopping:
            reason = service.failure or "the service could not be started"
            self._state.note(job_id, f"{job_id} is DEAD: {reason}")
        self.perform(self._state.scheduler.exited(job_id, Outcome.FATAL, reason, now))

    # ------------------------------------------------------------------ after a restart

    def take_over(self, request: RunRequest, seq: int, handle: str) -> None:
        """Follow a run that an earlier master started. The scheduler has adopted it."""
        self._state.activity.started(request.worker, request.job_id, self._state.clock.now())
        self._state.record_event(request.job_id, "taken over", "the master was restarted")
        self._go(Run(request, seq, Process(request, handle)))

    def finish_off(self, request: RunRequest, seq: int, handle: str, *, holds_slot: bool) -> None:
        """Finish the end of a run that an earlier master began to end. The job's end is already stored."""
        run = Run(request, seq, Process(request, handle))
        self._spawn(self._left_over(run, holds_slot=holds_slot))
        self._end(run)

    async def _left_over(self, run: Run, *, holds_slot: bool) -> None:
        result = await self._until_gone(run)
        if holds_slot:
            now = self._state.clock.now()
            exited = self._state.scheduler.exited(run.request.job_id, result.outcome, result.reason, now)
            self.perform(exited)
        await self._save(*run.last, SetGone(run.seq, run.request.run))
        self._forget(run)

    def resume_service(self, line: JobLine, seq: int, worker: str, *, up: bool, left: Process | None) -> None:
        """Continue a service of an earlier master.

        Args:
            left: its last run, unless that is known to have ended.
        """
        service = Service(line, seq, worker, up=up)
        first = None if left is None else Run(left.request, seq, left, service.halt)
        self._serve(service, first)

    # ------------------------------------------------------------------ all of them

    def running(self) -> list[str]:
        """The running jobs, without services."""
        return list(self._jobs)

    async def idle(self) -> None:
        """Wait until no job runs."""
        while tasks := [run.task for run in self._jobs.values() if run.task is not None]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """End every run, unless the engine keeps them. The next master queues the ended jobs again."""
        if self._engine.keeps_runs:
            await self._let_go()
            await self._engine.close()
            return
        self._stop_timer()
        for run in self._jobs.values():
            self._end(run)
        for service in self.services:
            self._halt(service)
        await self._engine.close()
        # No process is left, so the rest needs only the store.
        while self._tasks and self._state.store.journal.failing is None:
            await asyncio.wait(self._tasks, timeout=RETRY_SECONDS)
        await self._let_go()

    async def abandon(self) -> None:
        """Stop deciding, and end nothing: another master has taken over."""
        await self._let_go()
        await self._engine.abandon()

    async def _let_go(self) -> None:
        self._stop_timer()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _stop_timer(self) -> None:
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()

    def _go(self, run: Run) -> None:
        self._jobs[run.request.job_id] = run
        run.task = self._spawn(self._job(run))

    def _spawn(self, way: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(way)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        exc = None if task.cancelled() else task.exception()
        if exc is not None:
            message = "a run cannot be followed any more"
            self._loop.call_exception_handler({"message": message, "exception": exc})


async def _pause(seconds: float, halt: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await halt.wait()
