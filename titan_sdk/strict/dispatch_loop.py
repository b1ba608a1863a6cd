"""The dispatch loop: one for the whole cluster, so each slow step delays all jobs (sections 3, 5.3)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from socket import socket

from titan_sdk.cluster.engines.archives import ArchiveRefused, split_pointer
from titan_sdk.strict.jobs import StrictJob
from titan_sdk.strict.master import StrictMaster
from titan_sdk.strict.registry import HOST, Execution, Registered
from titan_sdk.strict.worker import ACCEPTED, StrictWorker, WorkerRefused
from titan_sdk.wire.jobs import DEPLOY_PAYLOAD, RUN_ARCHIVE, RUN_PAYLOAD, START_ARCHIVE_SERVICE

__all__ = ["DispatchLoop"]

log = logging.getLogger(__name__)

_DEFAULT_PORT = 8085


class DispatchLoop:
    """Runs until cancelled."""

    def __init__(self, master: StrictMaster) -> None:
        self._master = master

    async def run(self) -> None:
        """Dispatch one job after another."""
        while True:
            await self._next()

    async def _next(self) -> None:
        master = self._master
        job = await master.queue.take()
        job.status = "RUNNING"
        capable = master.registry.capable(job.tag)
        chosen = master.registry.best(job, capable)
        if chosen is None:
            job.status = "PENDING"
            master.queue.put(job)
            settings = master.settings
            await asyncio.sleep(settings.saturated_pause if capable else settings.no_worker_pause)
            return
        chosen.load += 1
        execution = master.executions[job.job_id] = Execution(chosen)
        master.running[job.job_id] = job
        master.set_status(job.job_id, "RUNNING")
        master.store.put(f"job:{job.job_id}:worker", str(chosen.port))
        try:
            chosen.active_job = job.job_id
            answer = await self._execute(job, chosen)
            if answer != ACCEPTED:
                master.complete(job, answer, execution)
                chosen.release()
        except WorkerRefused as exc:
            self._refused(job, execution, chosen, str(exc))
        await asyncio.sleep(0)

    def _refused(self, job: StrictJob, execution: Execution, chosen: Registered, reason: str) -> None:
        master = self._master
        log.info("dispatch of %s failed: %s", job.job_id, reason)
        execution.end("FAILED")
        master.running.pop(job.job_id, None)
        chosen.active_job = None
        chosen.release()
        master.history.add(execution, job)
        if "SATURATED" in reason:
            chosen.penalise()
        if "ALREADY in use" in reason:
            # Neither retried nor stored: the job stays RUNNING for ever (section 5.5).
            job.status = "FAILED"
        else:
            master.failed(job)

    async def _execute(self, job: StrictJob, chosen: Registered) -> str:
        worker = chosen.worker
        if worker is None:
            raise WorkerRefused("Worker Error: null")
        header, *fields = job.fields
        if header == DEPLOY_PAYLOAD:
            return await self._deploy(job, chosen, worker, fields)
        if header == RUN_PAYLOAD:
            return self._run(job, worker, fields)
        if header == RUN_ARCHIVE:
            entry = await self._unpack(job, worker, fields)
            return worker.run(job.job_id, entry, "")
        if header == START_ARCHIVE_SERVICE:
            entry = await self._unpack(job, worker, fields)
            answer = await worker.start_service(job.job_id, entry)
            if "DEPLOYED_SUCCESS" in answer:
                self._master.services[job.job_id] = chosen
                chosen.active_job = None
            return answer
        # The worker does not know it either: it takes the id for a file name.
        return worker.run(job.job_id, job.payload, "")

    @staticmethod
    def _run(job: StrictJob, worker: StrictWorker, fields: list[str]) -> str:
        """Four fields or more: file, arguments, script. Fewer: file, script."""
        if len(fields) < 2:
            raise WorkerRefused("Invalid Run Payload")
        args, content = (fields[1], fields[2]) if len(fields) >= 3 else ("", fields[1])
        worker.stage(fields[0], content)
        return worker.run(job.job_id, fields[0], args)

    async def _unpack(self, job: StrictJob, worker: StrictWorker, fields: list[str]) -> str:
        """Unpack the archive of a job. Its arguments are lost here (section 5.4)."""
        try:
            name, entry = split_pointer(fields[0] if fields else "")
        except ArchiveRefused as exc:
            raise WorkerRefused(str(exc)) from exc
        archive = self._master.data.uploads / name
        if not archive.resolve().is_relative_to(self._master.data.uploads.resolve()) or not archive.is_file():
            raise WorkerRefused(f"Asset not found: {name}")
        return str(await worker.unpack(job.job_id, entry, archive))

    async def _deploy(
        self, job: StrictJob, chosen: Registered, worker: StrictWorker, fields: list[str]
    ) -> str:
        """Check the port, stage, start, and poll the port, while every other job of the cluster waits."""
        if len(fields) < 2:
            raise WorkerRefused("Invalid Deploy Payload")
        port = _service_port(fields)
        if port is not None and _answers(port):
            raise WorkerRefused(f"Deployment Rejected: Port {port} is ALREADY in use by another service.")
        worker.stage(fields[0], fields[1])
        answer = await worker.start_service(job.job_id, fields[0])
        if "DEPLOYED_SUCCESS" not in answer:
            raise WorkerRefused(f"Start failed. Expected DEPLOYED_SUCCESS, got: {answer}")
        if port is not None:
            await self._await_port(port)
        self._master.services[job.job_id] = chosen
        chosen.active_job = None
        return "DEPLOYED_SUCCESS"

    async def _await_port(self, port: int) -> None:
        settings = self._master.settings
        for _ in range(settings.deploy_polls):
            await asyncio.sleep(settings.deploy_poll)
            if _answers(port):
                return
        raise WorkerRefused(f"Deployment Failed: port {port} never became reachable")


def _service_port(fields: list[str]) -> int | None:
    if len(fields) < 3 or not fields[2]:
        return None
    try:
        return int(fields[2])
    except ValueError:
        return _DEFAULT_PORT


def _answers(port: int) -> bool:
    with closing(socket()) as probe:
        try:
            return probe.connect_ex((HOST, port)) == 0
        except OverflowError:
            return False
