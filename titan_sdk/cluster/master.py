"""The master without its network: scheduler, store, engine and services, tied together.

Everything runs in one thread, the loop's. An event goes into the scheduler, its effects are performed at once,
and what must be durable first hangs on the journal: a reply, the opening of a job's gate, the removal of files.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from titan_sdk.cluster.activity import Activity
from titan_sdk.cluster.admission import Refused, dump_line, load_line
from titan_sdk.cluster.clock import Clock
from titan_sdk.cluster.engines.base import RunRequest, RunResult
from titan_sdk.cluster.engines.process import ProcessEngine, job_environment
from titan_sdk.cluster.engines.staging import SERVICES
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.logs import append_note
from titan_sdk.cluster.scheduler import (
    Effect,
    Ended,
    JobSpec,
    Kill,
    Outcome,
    Requeued,
    Scheduler,
    Settled,
    Start,
)
from titan_sdk.cluster.services import Services
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.store import jobs
from titan_sdk.cluster.store.sqlite import SqliteStore
from titan_sdk.model.rules import full_id
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.jobs import JobLine

__all__ = ["Master", "spec_of"]

log = logging.getLogger(__name__)


class Master:
    """A master over an opened data directory. Use ``recovery.recover`` before serving anybody."""

    def __init__(self, settings: ClusterSettings, data: DataDir, address: tuple[str, int]) -> None:
        self.settings = settings
        self.data = data
        self.clock = Clock()
        self.loop = asyncio.get_running_loop()
        self.scheduler = Scheduler()
        self.store = SqliteStore(data.database, self.loop)
        self.activity = Activity()
        host, port = address
        self._environments = {
            worker.name: job_environment(os.environ, worker.name, host, port)
            for worker in settings.worker_specs()
        }
        self._base_environment = job_environment(os.environ, "", host, port)
        self.engine = ProcessEngine(data, self, self._environment)
        self.services = Services(self.engine, self, settings.service_start_seconds)
        self._runs: dict[str, str] = {}
        """The current run of each running job."""
        self._unstored: dict[int, JobLine] = {}
        """Lines that the journal has not written yet, by the job's number."""
        self._settled: dict[str, Settled] = {}
        """Ends that the journal has not written yet."""
        self._gone: dict[str, asyncio.Event] = {}
        """Cancels that wait for the process to be gone."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._closing = False

    # ------------------------------------------------------------------ requests

    def resolve(self, job_id: str) -> str:
        """The id as it is known here: itself, or with ``DAG-`` in front."""
        if self.scheduler.get(job_id) is None and jobs.get(self.store.db, job_id) is None:
            return full_id(job_id)
        return job_id

    def known(self, job_id: str) -> bool:
        """Whether the id was ever submitted."""
        return self.scheduler.get(job_id) is not None or self.settled(job_id) is not None

    def status(self, job_id: str) -> JobStatus | None:
        """The state of an exact id; ``None`` for an unknown one."""
        job = self.scheduler.get(job_id)
        if job is not None:
            return job.status
        settled = self.settled(job_id)
        return None if settled is None else settled.status

    def settled(self, job_id: str) -> Settled | None:
        """How a finished job ended."""
        recent = self._settled.get(job_id)
        if recent is not None:
            return recent
        row = jobs.get(self.store.db, job_id)
        return Settled(row.status, row.worker) if row is not None and row.status.is_terminal else None

    async def submit(self, lines: Sequence[JobLine]) -> None:
        """Queue jobs; durable when it returns.

        Raises:
            Refused: an id is in use, or nothing could be stored. No job was taken.
        """
        for line in lines:
            self._check_free(line.job_id)
        now = self.clock.now()
        specs = [spec_of(line, self.store.next_seq(), now) for line in lines]
        numbers = {spec.job_id: spec.seq for spec in specs}
        rows = [self._row(line, spec, now, numbers) for line, spec in zip(lines, specs, strict=True)]
        for line, spec in zip(lines, specs, strict=True):
            self._unstored[spec.seq] = line
            with contextlib.suppress(FileNotFoundError):
                # A used id starts a log of its own.
                self.data.log_file(line.job_id).unlink()
        stored: asyncio.Future[None] = self.loop.create_future()

        def done(_: object) -> None:
            self._forget_unstored(specs)
            stored.set_result(None)

        def failed(exc: sqlite3.Error) -> None:
            self._forget_unstored(specs)
            self.perform(self.scheduler.withdraw(spec.job_id for spec in specs))
            stored.set_exception(Refused(f"the jobs could not be stored ({exc}); nothing was queued"))

        self.store.journal.write_with(lambda db: jobs.insert(db, rows), done, failed)
        self.perform(self.scheduler.submit(specs, self.settled, now))
        await stored

    async def cancel(self, job_id: str) -> bool:
        """End an unfinished job or a live service; when it returns nothing of it is left."""
        if job_id in self.services and self.scheduler.get(job_id) is None:
            await self.services.stop(job_id)
            seq, now = self._number(job_id), self.clock.now()
            await self.store.journal.write(
                lambda db: jobs.set_ended(db, seq, JobStatus.CANCELLED, None, "cancelled by a client", now)
            )
            return True
        answer, effects = self.scheduler.cancel(job_id)
        if not answer.found:
            return False
        if answer.killing:
            gone = self._gone.setdefault(job_id, asyncio.Event())
            self.perform(effects)
            await gone.wait()
        else:
            self.perform(effects)
        await self.flushed()
        return True

    async def stop_service(self, job_id: str) -> bool:
        """STOP: end a service; a service that was up keeps its status, as on a real master."""
        if job_id not in self.services:
            return False
        if self.scheduler.get(job_id) is not None:
            return await self.cancel(job_id)
        await self.services.stop(job_id)
        await self.flushed()
        return True

    async def remove_worker(self, name: str) -> int:
        """Take a worker out; its runs are killed and go to others, its services end. How many services."""
        hosted = self.services.on_worker(name)
        self.perform(self.scheduler.remove_worker(name))
        for job_id in hosted:
            if job_id in self.services:
                await self.stop_service(job_id)
        await self.flushed()
        return len(hosted)

    async def flushed(self) -> None:
        """Wait until everything so far is durable."""
        await self.store.journal.write(lambda _: None)

    async def close(self) -> None:
        """Kill what runs and store everything; jobs that were running are queued again by the next master."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self.services.close()
        await self.engine.close()
        running = [job for job_id in self._runs if (job := self.scheduler.get(job_id)) is not None]
        now = self.clock.now()

        def write(db: sqlite3.Connection) -> None:
            jobs.forget_handles(db)
            for job in running:
                jobs.set_pending(db, job.spec.seq, job.attempt - 1, None)
                jobs.add_history(db, job.job_id, job.spec.seq, now, "queued again", "the master was stopped")

        self.store.journal.record(write)
        self.store.close()

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
                self._ended(effect, code if effect.job_id == code_of else None)
        self._arm()

    def tick(self) -> None:
        """Look for delayed jobs whose time has come."""
        self._due = None
        self.perform(self.scheduler.tick(self.clock.now()))

    def _arm(self) -> None:
        due = self.scheduler.next_due()
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = due
        if due is not None and not self._closing:
            self._timer = self.loop.call_later(max(due - self.clock.now(), 0.0), self.tick)

    def _start(self, effect: Start) -> None:
        job = self.scheduler.get(effect.job_id)
        if job is None:
            return
        line = self._unstored.get(job.spec.seq)
        if line is None:
            line = load_line(job.job_id, jobs.line(self.store.db, job.spec.seq))
        seq, attempt = job.spec.seq, effect.attempt
        self.activity.started(effect.worker, job.job_id, self.clock.now())
        if job.spec.service:
            self.services.deploy(line, effect.worker, lambda: self.run_name(seq, 0))
            return
        run = self._runs[job.job_id] = self.run_name(seq, attempt)
        self.engine.start(RunRequest(run, line, effect.worker, attempt))

    def _kill(self, job_id: str) -> None:
        if job_id in self.services:
            task = self.loop.create_task(self.services.stop(job_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif job_id in self._runs:
            self.engine.kill(self._runs[job_id])

    def _requeued(self, effect: Requeued, code: int | None) -> None:
        now = self.clock.now()

        def write(db: sqlite3.Connection) -> None:
            jobs.set_pending(db, effect.seq, effect.attempts, code)
            jobs.add_history(db, effect.job_id, effect.seq, now, "queued again", effect.reason)

        self.store.journal.record(write)

    def _ended(self, effect: Ended, code: int | None) -> None:
        now = self.clock.now()
        job_id, status, reason = effect.job_id, effect.status, effect.reason
        settled = self._settled[job_id] = Settled(status, effect.worker)

        def write(db: sqlite3.Connection) -> None:
            jobs.set_ended(db, effect.seq, status, code, reason, now)
            jobs.add_history(db, job_id, effect.seq, now, status, reason or "")

        def stored() -> None:
            if self._settled.get(job_id) is settled:
                del self._settled[job_id]

        self.store.journal.record(write, stored)
        self.activity.ended(effect.worker, job_id, status, now)
        if status is JobStatus.DEAD and not effect.ran:
            self.note(job_id, f"{job_id} never ran: {reason}")

    def take_over(self, request: RunRequest, handle: str) -> None:
        """Watch a job's run that an earlier master started; the scheduler has adopted it."""
        self._runs[request.job_id] = request.run
        seq, now = self._number(request.job_id), self.clock.now()
        self.activity.started(request.worker, request.job_id, now)
        self.store.journal.record(
            lambda db: jobs.add_history(
                db, request.job_id, seq, now, "taken over", "the master was restarted"
            )
        )
        self.engine.reattach(request, handle)

    # ------------------------------------------------------------------ reports of the engine

    def launched(self, request: RunRequest, handle: str) -> None:
        """See ``Reports``."""
        job_id, now = request.job_id, self.clock.now()
        seq = self._number(job_id)
        attempt = request.attempt

        def write(db: sqlite3.Connection) -> None:
            jobs.set_running(db, seq, request.worker, request.run, handle, attempt, now)
            jobs.add_history(db, job_id, seq, now, "started", f"run {attempt} on {request.worker}")

        def stored() -> None:
            self.engine.release(request.run)
            if request.line.header in SERVICES:
                self.services.released(request)

        self.store.journal.record(write, stored)

    def exited(self, request: RunRequest, result: RunResult) -> None:
        """See ``Reports``."""
        job_id = request.job_id
        seq = self._number(job_id)
        if request.line.header in SERVICES:
            self.services.exited(request, result)
        else:
            self._runs.pop(job_id, None)
            if result.outcome is Outcome.FATAL and result.exit_code is None:
                self.note(job_id, f"{job_id} cannot run: {result.reason}")
            effects = self.scheduler.exited(job_id, result.outcome, result.reason, self.clock.now())
            self.perform(effects, result.exit_code, job_id)
        self.store.journal.record(
            lambda db: jobs.set_gone(db, seq, request.run), lambda: self._cleaned(request)
        )

    def _cleaned(self, request: RunRequest) -> None:
        self.engine.clean(request.run, request.worker)
        if request.job_id not in self._runs:
            gone = self._gone.pop(request.job_id, None)
            if gone is not None:
                gone.set()

    # ------------------------------------------------------------------ reports of services

    def service_up(self, job_id: str) -> None:
        """See ``ServiceHost``."""
        job = self.scheduler.get(job_id)
        if job is None:
            return
        seq = job.spec.seq
        self.store.journal.record(lambda db: jobs.set_service(db, seq, jobs.Service.LIVE))
        self.perform(self.scheduler.exited(job_id, Outcome.SUCCESS, None, self.clock.now()))

    def service_failed(self, job_id: str, reason: str) -> None:
        """See ``ServiceHost``."""
        self.note(job_id, f"{job_id} is DEAD: {reason}")
        self.perform(self.scheduler.exited(job_id, Outcome.FATAL, reason, self.clock.now()))

    def service_stopped(self, job_id: str, *, was_up: bool) -> None:
        """See ``ServiceHost``."""
        if was_up:
            seq = self._number(job_id)
            self.store.journal.record(lambda db: jobs.set_service(db, seq, jobs.Service.DEPLOYING))
            self.note(job_id, "the service was stopped")
        else:
            self.perform(self.scheduler.exited(job_id, Outcome.FATAL, "stopped", self.clock.now()))
            gone = self._gone.pop(job_id, None)
            if gone is not None:
                gone.set()

    def note(self, job_id: str, sentence: str) -> None:
        """See ``ServiceHost``."""
        try:
            append_note(self.data.log_file(job_id), sentence)
        except OSError as exc:
            log.warning("cannot write to the log of %s: %s", job_id, exc)

    # ------------------------------------------------------------------ parts

    def run_name(self, seq: int, attempt: int) -> str:
        """A name that no other run has or had."""
        return f"{seq}.{attempt}.{secrets.token_hex(6)}"

    def _environment(self, worker: str) -> dict[str, str]:
        return self._environments.get(worker) or {**self._base_environment, "TITAN_WORKER": worker}

    def _check_free(self, job_id: str) -> None:
        if self.scheduler.get(job_id) is not None:
            status = self.status(job_id)
            raise Refused(
                f"the job {job_id!r} is still {status}; wait for it or cancel it, or submit under another id"
            )
        if self.scheduler.is_stopping(job_id):
            raise Refused(f"the job {job_id!r} is being cancelled; submit it again when it is gone")
        if job_id in self.services:
            raise Refused(f"the service {job_id!r} is running; stop it first, or submit under another id")

    def _row(self, line: JobLine, spec: JobSpec, now: float, batch: Mapping[str, int]) -> jobs.NewJob:
        parents = tuple((parent, batch.get(parent) or self._number(parent)) for parent in line.parents)
        return jobs.NewJob(line.job_id, spec.seq, dump_line(line), parents, spec.service, now, spec.due)

    def _number(self, job_id: str) -> int:
        """The number of an id's latest submission, -1 for an unknown one."""
        job = self.scheduler.get(job_id)
        if job is not None:
            return job.spec.seq
        row = jobs.get(self.store.db, job_id)
        return -1 if row is None else row.seq

    def _forget_unstored(self, specs: Iterable[JobSpec]) -> None:
        for spec in specs:
            self._unstored.pop(spec.seq, None)


def spec_of(line: JobLine, seq: int, submitted_at: float, attempts: int = 0) -> JobSpec:
    """What the scheduler has to know of a line."""
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
