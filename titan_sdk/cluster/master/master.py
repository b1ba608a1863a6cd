"""The master without its network: the operations that clients ask for.

Everything runs in the loop's thread. An event goes into the scheduler, and its effects are performed at once. A step that
needs a durable state awaits the journal: a reply, the start of a process, the removal of files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from titan_sdk.cluster.engines.base import Engine
from titan_sdk.cluster.engines.process import ProcessEngine
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.master.admission import LARGE_JOBS, SubmissionRefused, compute
from titan_sdk.cluster.master.final_records import FinalRecords
from titan_sdk.cluster.master.job_environments import JobEnvironments
from titan_sdk.cluster.master.ray_front import JobsDoor, Pools, ray_engine
from titan_sdk.cluster.master.runs import Runs
from titan_sdk.cluster.master.scheduler import JobSpec, Kill
from titan_sdk.cluster.master.state import State
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.storage import Storage
from titan_sdk.cluster.store.changes import Change, InsertJobs, SetEnded, SetService, StoreFailed
from titan_sdk.cluster.store.journal import RETRY_SECONDS
from titan_sdk.cluster.store.rows import ServiceState
from titan_sdk.model.rules import full_id
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.jobs import JobLine

__all__ = ["Master"]

log = logging.getLogger(__name__)


class Master:
    """A master over an opened data directory. Use ``recovery.recover`` before serving anybody.

    Args:
        storage: the store, logs and artifacts. The master closes them.
        address: the master's address for jobs.
        socket_path: the master's Unix socket for jobs, if they need one.
        jobs_door: the access for jobs on other machines.
        is_temporary: no later master will use the folder, so local jobs end with this process, however it ends.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        data: DataDir,
        storage: Storage,
        address: tuple[str, int],
        socket_path: Path | None = None,
        jobs_door: JobsDoor | None = None,
        *,
        is_temporary: bool = False,
    ) -> None:
        self.settings = settings
        self.data = data
        self.uploads = storage.uploads
        self.scripts = storage.scripts
        self._loop = asyncio.get_running_loop()
        self.draining = False
        self._arriving: dict[str, asyncio.Task[None]] = {}
        """The ids whose submission is being stored."""
        self.state = State(storage.store, storage.logs)
        self.state.scheduler.ageing = settings.ageing_seconds
        self.pools: Pools | None = None
        """The pools of an engine that chooses the places itself."""
        self.engine: Engine
        if settings.ray is None:
            self.engine = ProcessEngine(
                data,
                JobEnvironments(settings, address, socket_path, data.ends),
                uploads=storage.uploads,
                shared=settings.store is not None,
                held=is_temporary,
            )
        else:
            # The engine reports its nodes only after it is open.
            self.pools = Pools(
                settings.ray,
                self.state.scheduler,
                lambda effects: self.runs.perform(effects),
                lambda: self.services.by_tag(),
            )
            self.engine = ray_engine(settings, settings.ray, storage, self.pools, jobs_door)
        final_records = FinalRecords(data.ends if settings.ray is None else None)
        self.runs = Runs(self.state, self.engine, settings.service_start_seconds, final_records)
        self.services = self.runs.services
        if self.pools is not None:
            self.services.changed = self.pools.resize

    async def submit(
        self,
        lines: Sequence[JobLine],
        numbers: Mapping[str, int],
        values: Sequence[Change] = (),
        dag: tuple[str, str] | None = None,
    ) -> None:
        """Queue checked jobs. They are durable and queued when this returns, even if the caller was cancelled.

        Args:
            numbers: the numbers of parents outside the submission.
            values: the TitanStore values to store together with the jobs.
            dag: the name and run of the DAG.

        Raises:
            SubmissionRefused: an id is in use, or the store failed. No job was taken.
        """
        if self.draining:
            raise SubmissionRefused(
                "the master is shutting down and takes no more jobs; submit again when it is back"
            )
        for line in lines:
            self._check_free(line.job_id)
        taking = self._loop.create_task(self._take(lines, numbers, values, dag))
        self._arriving |= dict.fromkeys((line.job_id for line in lines), taking)
        await asyncio.shield(taking)

    async def _take(
        self,
        lines: Sequence[JobLine],
        numbers: Mapping[str, int],
        values: Sequence[Change],
        dag: tuple[str, str] | None,
    ) -> None:
        try:
            large = len(lines) > LARGE_JOBS
            specs, rows = await compute(self.state.new_jobs, lines, numbers, dag, in_thread=large)
            stored = self.state.store.journal.write(*values, InsertJobs(tuple(rows)))
            self.state.store.journal.commit()
            await stored
            # Only now: a refused submission must leave the earlier job's log alone.
            await compute(self.state.begin_logs, [line.job_id for line in lines], in_thread=large)
            await self._bring(numbers)
            self._queue(specs)
        except StoreFailed as exc:
            raise SubmissionRefused(f"the jobs could not be stored ({exc}); nothing was queued") from exc
        finally:
            for line in lines:
                del self._arriving[line.job_id]

    async def _bring(self, parents: Iterable[str]) -> None:
        """Load the parents outside a submission. Stored jobs must be queued, however long that takes."""
        while True:
            try:
                await self.state.store.bring(parents)
            except StoreFailed:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def _queue(self, specs: list[JobSpec]) -> None:
        """Pass stored jobs to the scheduler."""
        now = self.state.clock.now()
        try:
            if self.pools is not None:
                self.pools.cover({spec.tag for spec in specs})
            self.runs.perform(self.state.scheduler.submit(specs, self.state.settled, now))
        except Exception:
            log.exception("jobs that are stored could not be queued, or not all; the next master queues them")

    def is_arriving(self, job_ids: Iterable[str]) -> bool:
        """Whether a submission with one of these ids (with or without ``DAG-``) is being stored."""
        return bool(self._arriving) and self._arriving_of(job_ids) is not None

    async def arrived(self, job_ids: Sequence[str]) -> None:
        """Wait while ``is_arriving``. Until then no question about the ids can be answered."""
        while self._arriving and (taking := self._arriving_of(job_ids)) is not None:
            await asyncio.wait([taking])

    def _arriving_of(self, job_ids: Iterable[str]) -> asyncio.Task[None] | None:
        names = (name for job_id in job_ids for name in (job_id, full_id(job_id)))
        return next((self._arriving[name] for name in names if name in self._arriving), None)

    def running(self) -> list[str]:
        """The running jobs and services."""
        return [*self.runs.running(), *self.services.live()]

    async def drain(self, seconds: float) -> None:
        """Start and accept nothing more, and wait for running jobs. Services are not waited for."""
        self.draining = True
        self.state.scheduler.hold()
        try:
            async with asyncio.timeout(seconds):
                await self.runs.idle()
        except TimeoutError:
            log.warning("still running after %g s: %d jobs", seconds, len(self.runs.running()))

    async def cancel(self, job_id: str) -> bool:
        """Cancel an unfinished job or a live service. When it returns, that is stored and the processes have been told.

        Returns False, and changes nothing, if there is nothing to cancel.
        """
        service = self.services.get(job_id)
        if service is not None and self.state.scheduler.jobs.get(job_id) is None:
            if service.process is None:
                # After the end is stored, no run of the job may begin.
                self.runs.stop_service(job_id)
            seq, now = service.seq, self.state.clock.now()
            ended = SetEnded(seq, JobStatus.CANCELLED, None, "cancelled by a client", now)
            # The service is no longer live, so the next master ends its processes.
            await self.state.store.journal.write(SetService(seq, ServiceState.DEPLOYING), ended)
            self.runs.perform([Kill(job_id)])
            return True
        effects = self.state.scheduler.cancel(job_id)
        if not effects:
            return False
        self.runs.perform(effects)
        await self.flushed()
        return True

    def is_stopping(self, job_id: str) -> bool:
        """Whether the job was cancelled, and processes of its run may be left."""
        return self.state.scheduler.is_stopping(job_id) or self.services.is_stopping(job_id)

    async def stop_service(self, job_id: str) -> bool:
        """STOP: end a service. A service that was up keeps its status, as on a real master."""
        if job_id not in self.services:
            return False
        gone = self.runs.stop_service(job_id)
        if self.state.scheduler.jobs.get(job_id) is not None:
            await self.cancel(job_id)
        await gone.wait()
        await self.flushed()
        return True

    async def remove_worker(self, name: str) -> int:
        """Remove a worker. Its runs are killed and go to other workers; its services end. Returns their number."""
        hosted = self.services.on_worker(name)
        self.runs.perform(self.state.scheduler.remove_worker(name))
        for job_id in hosted:
            if job_id in self.services:
                await self.stop_service(job_id)
        await self.flushed()
        return len(hosted)

    async def flushed(self) -> None:
        """Wait until all changes so far are durable."""
        await self.state.store.journal.write()

    async def end_runs(self) -> None:
        """End running jobs, which the next master queues again. Requests are answered meanwhile, also those of jobs."""
        self.draining = True
        self.state.scheduler.hold()
        await self.runs.close()

    async def close(self) -> None:
        """Store all changes, and close."""
        await self.state.store.close()

    async def abandon(self) -> None:
        """Stop without ending anything: another master has taken over."""
        await self.runs.abandon()
        await self.state.store.close()

    def _check_free(self, job_id: str) -> None:
        """Check that the id can be submitted.

        Raises:
            SubmissionRefused: an earlier submission of it has not ended.
        """
        job = self.state.scheduler.jobs.get(job_id)
        if job is not None:
            raise SubmissionRefused(
                f"the job {job_id!r} is still {job.status}; wait for it or cancel it, or submit under another id"
            )
        if self.state.scheduler.is_stopping(job_id):
            raise SubmissionRefused(f"the job {job_id!r} is being cancelled; submit it again when it is gone")
        if job_id in self._arriving:
            raise SubmissionRefused(
                f"the job {job_id!r} is being submitted by another client; submit under another id"
            )
        if job_id in self.services:
            raise SubmissionRefused(
                f"the service {job_id!r} is running; stop it first, or submit under another id"
            )
