"""AsyncTitanClient: the same names as TitanClient, awaited."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from titan_sdk.async_handles import AsyncDagHandle, AsyncJobHandle
from titan_sdk.config import ClientConfig
from titan_sdk.dashboard import report_submission
from titan_sdk.drivers import AsyncDriver
from titan_sdk.flows import (
    approvals,
    artifacts,
    cancel,
    lease,
    logs,
    manifest,
    pipeline,
    server,
    store,
    submit,
)
from titan_sdk.flows import wait as wait_flow
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.report import JobRef, job_report
from titan_sdk.flows.transfer import Progress
from titan_sdk.model.artifact import ArtifactRef
from titan_sdk.model.gates import Decision, PendingApproval
from titan_sdk.model.job import TitanJob
from titan_sdk.model.report import JobDetails, JobReport, LogPage
from titan_sdk.model.stats import ClusterStats, ServerInfo
from titan_sdk.model.status import JobStatus
from titan_sdk.session import Session
from titan_sdk.wire import calls

__all__ = ["AsyncTitanClient"]

T = TypeVar("T")


class AsyncTitanClient:
    """A Titan master, reached over TCP.

    Making a client connects to nothing. Methods belong to the event loop they are awaited on,
    may run concurrently, are safe to cancel, and raise subclasses of ``TitanError``. Ids may be given with or without Titan's ``DAG-`` prefix.

    Args:
        host: default ``TITAN_HOST``, else ``localhost``.
        port: default ``TITAN_PORT``, else 9090.
        config: everything else (timeouts, ``worker_address``); excludes ``host`` and ``port``.
    """

    def __init__(
        self, host: str | None = None, port: int | None = None, *, config: ClientConfig | None = None
    ) -> None:
        self.config = ClientConfig.choose(config, host, port, os.environ)
        self._session = Session(self.config)
        if self.config.dashboard_url:
            self._session.on_submitted = partial(report_submission, self.config.dashboard_url)
        self._driver = AsyncDriver(self._session)

    async def __aenter__(self) -> AsyncTitanClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections kept for reuse. Idempotent; the client may be used again."""
        await self._driver.close()

    def __repr__(self) -> str:
        return f"<AsyncTitanClient {self.config.address}>"

    async def _run(self, flow: Flow[T]) -> T:
        return await self._driver.run(flow)

    # -- jobs and DAGs ----------------------------------------------------------------------------------------

    async def submit_job(self, job: TitanJob, *, nonce: str | None = None) -> AsyncJobHandle:
        """Send one job and make sure that the master took it. Not idempotent; never sent twice by itself.

        Args:
            nonce: 16 hex digits naming this submission, for a caller who records it before submitting.

        Raises:
            InvalidDag: the id is still in use, or a parent is not known. Nothing was sent.
            RequestRefused: the bundled master refused it.
            SubmissionUnconfirmed: sent, outcome unknown.
        """
        return (await self.submit_dag(job.job_id, [job], nonce=nonce)).jobs[0]

    async def submit_dag(
        self,
        name: str,
        jobs: Iterable[TitanJob],
        agent_run_id: str | None = None,
        *,
        nonce: str | None = None,
    ) -> AsyncDagHandle:
        """Send linked jobs as one DAG and make sure that the master took every one.

        Args:
            agent_run_id: recorded in the DAG's manifest; no effect on scheduling.
            nonce: as ``submit_job``.

        Raises:
            InvalidDag: an id twice, a cycle, an unknown parent. Nothing was sent.
            RequestRefused, SubmissionUnconfirmed: as ``submit_job``.
        """
        return AsyncDagHandle(
            self, await self._run(submit.submit_dag(self._session, name, jobs, agent_run_id, nonce=nonce))
        )

    async def submit_yaml(
        self, path: str | os.PathLike[str], agent_run_id: str | None = None
    ) -> AsyncDagHandle:
        """Submit the pipeline that a YAML file describes; in project mode its folder is uploaded first.

        Raises:
            InvalidPipeline: names file, line and key. Nothing was sent.
        """
        return AsyncDagHandle(self, await self._run(pipeline.submit_yaml(self._session, path, agent_run_id)))

    def job_handle(self, job_id: str, nonce: str | None = None) -> AsyncJobHandle:
        """A handle on a job that was submitted earlier or elsewhere; asks the master nothing.

        Args:
            nonce: which submission of the id is meant; default the latest one.
        """
        return AsyncJobHandle(self, JobRef(job_id, nonce))

    async def find_dag(self, name: str, run: str | None = None) -> AsyncDagHandle:
        """The latest DAG submitted under that name through this SDK, or the run called ``run``.

        Raises:
            NotFound: there is none.
        """
        return AsyncDagHandle(self, await self._run(manifest.find_dag(name, run)))

    async def get_job_status(self, job_id: str) -> JobStatus:
        """The master's word for the job; ``UNKNOWN`` when it has no such id (or its store is down)."""
        return await self._run(ask(calls.job_status(job_id)))

    async def get_job_statuses(self, job_ids: Sequence[str], *, wait: float = 0.0) -> dict[str, JobStatus]:
        """As ``get_job_status``, for many jobs: by one request where the master has the feature ``wait``.

        Args:
            wait: seconds for which such a master may hold its answer until one of the jobs is over; one that is
                over already is answered at once.
        """
        return await self._run(wait_flow.job_statuses(self._session, job_ids, wait))

    async def job_report(self, job_id: str, *, nonce: str | None = None) -> JobReport:
        """Everything known of the job now; does not wait."""
        return await self._run(job_report(JobRef(job_id, nonce)))

    async def wait_for_job(
        self,
        job_id: str,
        timeout: float | None = None,
        raise_on_failure: bool = True,
        *,
        nonce: str | None = None,
    ) -> JobReport:
        """Wait until the job has ended.

        Args:
            timeout: seconds; ``None`` waits for ever.

        Raises:
            JobFailed: it ended without success, unless ``raise_on_failure`` is false.
            WaitTimedOut: the time is over; the job goes on.
            NotFound: the master does not know the id.
        """
        return await self._run(
            wait_flow.wait_for_job(self._session, JobRef(job_id, nonce), timeout, raise_on_failure)
        )

    async def cancel_job(self, job_id: str) -> JobStatus:
        """Cancel, and return the state after it; a job that has ended is left as it is. Idempotent.

        Raises:
            NotFound: the master does not know the id.
        """
        return await self._run(cancel.cancel_job(job_id))

    async def renew_owner_lease(self, job_id: str, *, nonce: str | None = None) -> None:
        """Say that whoever the job runs for is still there; wanted several times per ``owner_lease``. Idempotent.

        Raises:
            NotFound: nothing of the job is recorded, as it was not submitted with the runtime.
        """
        await self._run(lease.renew(JobRef(job_id, nonce)))

    async def stop_service(self, service_id: str) -> str:
        """End a running service and its descendants; returns the master's words.

        Raises:
            NotFound: no service of that id is running.
        """
        return await self._run(ask(calls.stop_service(service_id)))

    async def pending_approvals(self) -> list[PendingApproval]:
        """Gates (``TitanJob.hitl_message``) that wait for a decision now, the longest-waiting first."""
        return await self._run(approvals.pending_approvals())

    async def approve(self, gate_or_job_id: str) -> str:
        """Let what depends on the job run; the gate's id. Idempotent."""
        return await self._run(approvals.decide(gate_or_job_id, Decision.APPROVED))

    async def reject(self, gate_or_job_id: str) -> str:
        """Let nothing that depends on the job run; otherwise as ``approve``."""
        return await self._run(approvals.decide(gate_or_job_id, Decision.REJECTED))

    # -- logs -------------------------------------------------------------------------------------------------

    async def fetch_logs(self, job_id: str, *, nonce: str | None = None) -> str:
        """Everything the job has printed so far, stdout and stderr merged; empty when there is nothing.

        Complete and ordered for jobs with the runtime; see docs/runtime.md for the others.
        """
        return await self._run(logs.fetch_logs(JobRef(job_id, nonce)))

    async def follow_logs(
        self, job_id: str, *, nonce: str | None = None, position: int = 0
    ) -> AsyncIterator[str]:
        """New lines as they come, each once, until the job has ended.

        Args:
            position: where to go on; see ``LogFollower``.
        """
        follower = logs.LogFollower(self._session, JobRef(job_id, nonce), position=position)
        while not follower.done:
            for line in await self._run(follower.read()):
                yield line

    async def read_logs(
        self, job_id: str, *, nonce: str | None = None, position: int = 0, chunks: int = 64
    ) -> LogPage:
        """What was printed from ``position`` on, at most some MiB at once, without waiting.

        Ask again with the page's ``position``. An empty page after the job's end is the end. Exact and complete for
        jobs with the runtime; otherwise as good as the master's own log.

        Args:
            chunks: bound of the page, in pieces of at most 256 KiB; only for jobs with the runtime.
        """
        return await self._run(logs.read_logs(self._session, JobRef(job_id, nonce), position, chunks=chunks))

    async def job_details(self, job_id: str) -> JobDetails:
        """What the master itself knows of a job: why it waits, how many go first, its history.

        Raises:
            NotSupported: on a real master, which tells no more than the state.
            NotFound: the master does not know the job.
        """
        return await self._run(server.job_details(self._session, job_id))

    # -- the master -------------------------------------------------------------------------------------------

    async def server_info(self) -> ServerInfo:
        """Which master answers and what it can do beyond Titan v1; asked once per client."""
        return await self._run(server.server_info(self._session))

    async def cluster_stats(self) -> ClusterStats:
        """Workers with tags and load, and the queue, at this instant."""
        return await self._run(server.cluster_stats())

    # -- artifacts --------------------------------------------------------------------------------------------

    async def upload_file(
        self, path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> ArtifactRef:
        """Store a file in the artifact registry under its base name, replacing what was there. Idempotent.

        Args:
            progress: called with the bytes sent and the bytes in all.

        Raises:
            MissingFile: there is no such file.
            PayloadTooLarge: over about 7.86 MB on a real master, whose packet limit that is. Nothing was sent.
        """
        return await self._run(artifacts.upload_file(self._session, path, progress))

    async def upload_project_folder(
        self,
        path: str | os.PathLike[str],
        project_name: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> ArtifactRef:
        """Zip a folder and store it as ``<project_name>.zip``; default name: the folder's. Idempotent.

        Caches and what a ``.titanignore`` in it names (as a .gitignore) stay behind; the same files give the same zip.

        Raises:
            MissingFile, PayloadTooLarge: as ``upload_file``.
        """
        return await self._run(artifacts.upload_project_folder(self._session, path, project_name, progress))

    async def fetch_artifact(
        self, name: str, save_path: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
    ) -> Path:
        """Write an artifact to ``save_path``, default its base name in the current folder; whole or not at all.

        Raises:
            NotFound: the registry has no artifact of that name.
        """
        return await self._run(artifacts.fetch_artifact(self._session, name, save_path, progress))

    async def publish_artifact(self, key: str, path: str | os.PathLike[str]) -> ArtifactRef:
        """Upload a file and store its name in TitanStore under ``key``.

        Raises:
            MissingFile, PayloadTooLarge: as ``upload_file``.
        """
        return await self._run(artifacts.publish_artifact(self._session, key, path))

    async def get_artifact(self, key: str, save_path: str | os.PathLike[str] | None = None) -> Path:
        """Fetch the file that was published under ``key``; see ``fetch_artifact``.

        Raises:
            NotFound: nothing is published under the key.
        """
        return await self._run(artifacts.get_artifact(self._session, key, save_path))

    async def deploy_script(self, path: str | os.PathLike[str]) -> ArtifactRef:
        """Put a script into the master's own script folder under its base name. Idempotent."""
        return await self._run(artifacts.deploy_script(path))

    # -- TitanStore -------------------------------------------------------------------------------------------

    async def store_put(self, key: str, value: str) -> None:
        """Set a key to any text up to 512 Mi characters; read back exactly by ``store_get``. Last writer wins.

        Over 10 MiB it is stored in parts, which this SDK alone puts together again.

        Raises:
            PayloadTooLarge: larger than that. Nothing was sent.
        """
        await self._run(store.store_put(self._session, key, value))

    async def store_get(self, key: str) -> str | None:
        """The key's text, or ``None`` when it is absent."""
        return await self._run(store.store_get(key))

    async def store_sadd(self, key: str, member: str) -> int:
        """Add to a set: 1 when the member is new, 0 when it was there.

        Exact on the bundled master. A real one does not tell, so the members are read first: two clients that add
        the same member at the same instant may both read 1.
        """
        return await self._run(store.store_sadd(self._session, key, member))

    async def store_smembers(self, key: str) -> list[str]:
        """All members of a set, sorted; empty when there is no such set."""
        return await self._run(store.store_smembers(key))

    async def store_delete(self, key: str) -> bool:
        """Remove a value or a set; whether it was there. Idempotent.

        Raises:
            NotSupported: on a real master, which cannot delete.
        """
        return await self._run(store.store_delete(self._session, key))

    async def store_keys(self, prefix: str = "") -> list[str]:
        """Keys of values and sets that begin with ``prefix``, sorted.

        Raises:
            NotSupported: on a real master, which cannot list.
        """
        return await self._run(store.store_keys(self._session, prefix))

    async def store_expire(self, key: str, seconds: float) -> bool:
        """Delete a key after ``seconds``, unless it is written again before; whether it is there.

        Raises:
            NotSupported: on a real master, which keeps everything.
        """
        return await self._run(store.store_expire(self._session, key, seconds))

    async def store_swap(self, key: str, expected: str | None, value: str | None) -> bool:
        """Compare and set: write ``value`` only if the key holds ``expected``; whether it was written.

        ``expected=None`` means absent, ``value=None`` deletes. Atomic among all clients of the master.

        Raises:
            NotSupported: on a real master, which has no such operation.
        """
        return await self._run(store.store_swap(self._session, key, expected, value))
