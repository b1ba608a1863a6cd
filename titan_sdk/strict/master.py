"""The state of a real master, defects included: waiting jobs, running jobs, and the store.

Every step has the order of a real master's, because the defects depend on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from titan_sdk.cluster.folders import DataDir
from titan_sdk.strict.jobs import JavaQueue, StrictJob, has_cycle
from titan_sdk.strict.logs import LogBook
from titan_sdk.strict.registry import Execution, History, Registered, Registry
from titan_sdk.strict.settings import StrictSettings
from titan_sdk.strict.store import StoreLink, StoreServer
from titan_sdk.strict.worker import StrictWorker, WorkerRefused
from titan_sdk.wire.jobs import LineError, parse_dag

__all__ = ["StrictMaster"]

log = logging.getLogger(__name__)

_ACTIVE = "system:active_jobs"
_MAX_RETRIES = 3


class StrictMaster:
    """A master between two restarts. A restart makes a new one over the same store, files and workers."""

    def __init__(
        self, settings: StrictSettings, data: DataDir, store: StoreServer, workers: Iterable[StrictWorker]
    ) -> None:
        self.settings = settings
        self.data = data
        self.store = StoreLink(store)
        self.registry = Registry(workers, settings.slots)
        self.history = History()
        self.logs = LogBook(data.log_file, settings.log_lines)
        self.queue = JavaQueue()
        self.waiting: dict[str, StrictJob] = {}
        """The jobs that wait for parents, by id. A second submission of an id replaces the first."""
        self.running: dict[str, StrictJob] = {}
        self.executions: dict[str, Execution] = {}
        self.cancelled: set[str] = set()
        self.services: dict[str, Registered] = {}
        self.delayed = 0
        self.dead = 0
        self._loop = asyncio.get_running_loop()
        self._timers: set[asyncio.TimerHandle] = set()
        if self.store.connect():
            self._recover()

    def close(self) -> None:
        """Cancel all pending timers."""
        for timer in self._timers:
            timer.cancel()

    # ------------------------------------------------------------------ submitting

    async def submit_dag(self, payload: str) -> None:
        """Queue the lines that parse, one after another. With a cycle, queue nothing (section 4.1)."""
        jobs = []
        for line in parse_dag(payload):
            if isinstance(line, LineError):
                log.warning("dropped without a word to the client: %s", line)
            else:
                jobs.append(StrictJob.of(line))
        if has_cycle(jobs):
            log.warning("dropped %d jobs without a word to the client: they form a cycle", len(jobs))
            return
        for job in jobs:
            self.submit(job)
            await asyncio.sleep(self.settings.register_pause)

    def submit(self, job: StrictJob) -> None:
        """Store the job, and queue it or let it wait for parents."""
        self.store.put(f"job:{job.job_id}:payload", job.payload)
        self.set_status(job.job_id, "PENDING")
        self.store.put(f"job:{job.job_id}:priority", str(job.priority))
        self.store.put(f"job:{job.job_id}:delay", str(job.due_ms))
        self.store.add(_ACTIVE, job.job_id)
        if job.ready:
            self._queue(job)
        else:
            self.waiting[job.job_id] = job

    def _queue(self, job: StrictJob) -> None:
        seconds = job.wait_seconds
        if seconds <= 0:
            self.queue.put(job)
            return
        self.delayed += 1
        # It cannot be removed again: a cancelled job runs when it is due (section 7).
        self._timers.add(self._loop.call_later(seconds, self._due, job))

    def _due(self, job: StrictJob) -> None:
        self.delayed -= 1
        self.queue.put(job)

    def _recover(self) -> None:
        """Queue the unfinished jobs of the store, which has neither parents nor affinity (section 10)."""
        for job_id in self.store.members(_ACTIVE):
            try:
                self._recover_job(job_id)
            except ValueError as exc:
                log.warning("%s is not recovered: %s", job_id, exc)

    def _recover_job(self, job_id: str) -> None:
        status = self.store.get(f"job:{job_id}:status")
        payload = self.store.get(f"job:{job_id}:payload")
        if payload is None or status is None or status in {"COMPLETED", "DEAD"}:
            self.store.remove(_ACTIVE, job_id)
            return
        priority = self.store.get(f"job:{job_id}:priority")
        due = self.store.get(f"job:{job_id}:delay")
        self._queue(StrictJob(job_id, payload, int(priority or 1), int(due or 0)))

    # ------------------------------------------------------------------ the ends of jobs

    def set_status(self, job_id: str, status: str) -> None:
        self.store.put(f"job:{job_id}:status", status)

    def job_ended(self, job_id: str, status: str, result: str) -> None:
        """A report of a job's end, by a worker or any other client (section 2.1)."""
        if job_id in self.cancelled:
            self.cancelled.discard(job_id)
            return
        execution = self.executions.get(job_id)
        job = self.running.pop(job_id, None)
        if execution is None:
            return
        if execution.worker is not None:
            execution.worker.active_job = None
        if status != "COMPLETED":
            # The slot is not freed here; it is lost until the next heartbeat (section 5.2).
            execution.end("FAILED")
            if job is not None:
                self.failed(job)
            return
        if job is None:
            # Two runs of one id: the first end counted for both. A real master has a null pointer here.
            execution.end("COMPLETED")
            return
        self.complete(job, result, execution)
        if execution.worker is not None:
            execution.worker.release()

    def complete(self, job: StrictJob, result: str, execution: Execution) -> None:
        """Set COMPLETED, and release the children that wait at this moment."""
        execution.end("COMPLETED")
        job.status = "COMPLETED"
        self.set_status(job.job_id, "COMPLETED")
        self.store.put(f"job:{job.job_id}:result", result)
        self.store.remove(_ACTIVE, job.job_id)
        self.history.add(execution, job)
        for child in list(self.waiting.values()):
            if job.job_id not in child.parents:
                continue
            if child.affinity and child.preferred_port is None and execution.worker is not None:
                child.preferred_port = execution.worker.port
            child.satisfied.add(job.job_id)
            if child.ready:
                self.waiting.pop(child.job_id, None)
                self.submit(child)

    def failed(self, job: StrictJob) -> None:
        """Queue the job again, three times. Then it is DEAD; its waiting children are forgotten, and stay PENDING."""
        if job.job_id in self.cancelled:
            return
        job.retries += 1
        if job.retries <= _MAX_RETRIES:
            job.status = "PENDING"
            self.set_status(job.job_id, "PENDING")
            self.queue.put(job)
            return
        job.status = "DEAD"
        self.dead += 1
        self.set_status(job.job_id, "DEAD")
        self.store.remove(_ACTIVE, job.job_id)
        execution = self.executions.get(job.job_id)
        if execution is not None:
            execution.status = "DEAD"
        self._drop_children(job.job_id)
        self.history.add(execution, job)

    def _drop_children(self, job_id: str) -> None:
        """Remove the children from memory only: their status in the store does not change."""
        for child in list(self.waiting.values()):
            if job_id in child.parents and self.waiting.pop(child.job_id, None) is not None:
                child.status = "DEAD"
                self.dead += 1
                self.executions[child.job_id] = execution = Execution(None)
                execution.end("DEAD")
                self.history.forget(child.job_id)
                self._drop_children(child.job_id)

    # ------------------------------------------------------------------ cancel, services, logs

    def cancel(self, job_id: str) -> str:
        """Cancel as in section 7: the answer does not show the effect, and the id is remembered until its next report."""
        self.cancelled.add(job_id)
        self.queue.remove(job_id)
        waiting = self.waiting.pop(job_id, None)
        if waiting is not None:
            waiting.status = "CANCELLED"
            self.executions[job_id] = ghost = Execution(None)
            ghost.end("CANCELLED")
            self._store_cancelled(job_id)
            return "CANCELLED"
        job = self.running.pop(job_id, None)
        execution = self.executions.get(job_id)
        if execution is not None:
            execution.end("CANCELLED")
            if execution.worker is not None:
                execution.worker.active_job = None
                execution.worker.release()
                if execution.worker.worker is not None:
                    execution.worker.worker.cancel(job_id)
        if job is not None:
            job.status = "CANCELLED"
            self.history.add(execution, job)
        self._store_cancelled(job_id)
        return "CANCELLED" if job is not None else "NOT_FOUND"

    def _store_cancelled(self, job_id: str) -> None:
        self.set_status(job_id, "CANCELLED")
        self.store.remove(_ACTIVE, job_id)
        self._drop_children(job_id)

    def stop_service(self, service_id: str) -> str:
        """STOP a service. Its status does not change."""
        host = self.services.get(service_id)
        if host is None:
            known = ", ".join(self.services)
            return f"ERROR: Service {service_id} not found in liveServiceMap. Current keys: [{known}]"
        try:
            if host.worker is None:
                raise WorkerRefused("Worker Error: null")
            answer = host.worker.stop_service(service_id)
        except WorkerRefused as exc:
            return f"COMMUNICATION_ERROR: {exc}"
        if "SUCCESS" in answer or "STOPPED" in answer:
            self.services.pop(service_id, None)
        return answer

    def service_gone(self, service_id: str) -> None:
        """A report that a service was stopped, by a worker or any other client."""
        self.services.pop(service_id, None)

    def log_batch(self, job_id: str, block: str) -> None:
        self.logs.receive(job_id, block)
