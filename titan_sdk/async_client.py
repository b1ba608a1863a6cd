"""AsyncTitanClient: the asynchronous entry to a Titan cluster."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from titan_sdk import flows, wire
from titan_sdk.async_drivers import AsyncDriver
from titan_sdk.async_handles import AsyncDagHandle, AsyncJobHandle
from titan_sdk.config import ClientConfig
from titan_sdk.errors import WaitTimedOut
from titan_sdk.session import Session

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from titan_sdk.flows.core import Flow
    from titan_sdk.flows.transfer import Progress
    from titan_sdk.model.artifact import ArtifactRef
    from titan_sdk.model.checkpoint import Checkpoint
    from titan_sdk.model.files import FileRef
    from titan_sdk.model.gates import PendingApproval
    from titan_sdk.model.job import TitanJob
    from titan_sdk.model.listing import JobChanges, ListedArtifact, ListedDag, ListedJob, ListPage
    from titan_sdk.model.loglines import LogLine
    from titan_sdk.model.report import JobDetails, JobReport, LogPage
    from titan_sdk.model.server import ServerInfo
    from titan_sdk.model.stats import ClusterStats
    from titan_sdk.model.status import JobStatus
    from titan_sdk.wire.calls import Call

__all__ = ["AsyncTitanClient"]

T = TypeVar("T")


class AsyncTitanClient:
    """A Titan master, reached over TCP.

    Making a client connects to nothing. Ids may be given with or without Titan's ``DAG-`` prefix. Methods raise
    subclasses of ``TitanError``; they belong to the event loop they are awaited on, may run concurrently, and are safe
    to cancel.

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
            from titan_sdk.dashboard import report_submission  # few have one

            self._session.on_submitted = partial(report_submission, self.config.dashboard_url)
        self._driver = AsyncDriver(self._session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections kept for reuse. Idempotent; the client may be used again."""
        await self._driver.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.config.address}>"

    async def _run(self, flow: Flow[T]) -> T:
        return await self._driver.run(flow)

    async def _ask(self, call: Call[T]) -> T:
        # As a flow of one step, without the flow: what is polled thousands of times goes this way.
        return await self._driver.ask(call)

    # -- jobs and DAGs ----------------------------------------------------------------------------------------

    async def submit_job(self, job: TitanJob, *, nonce: str | None = None) -> AsyncJobHandle:
        """Send one job and make sure that the master took it. Not idempotent; never sent twice by itself.

        Args:
            nonce: 16 hex digits naming this submission, for a caller who records it before submitting.

        Raises:
            InvalidDag: the id is still in use, or a parent is not known. Nothing was sent.
            RequestRefused: the bundled master refused it.
            StoreUnavailable: the master's store does not answer. Nothing was sent.
            SubmissionUnconfirmed: sent, outcome unknown.
        """
        dag = await self.submit_dag(job.job_id, [job], nonce=nonce)
        return dag.jobs[0]

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
            RequestRefused, StoreUnavailable, SubmissionUnconfirmed: as ``submit_job``.
        """
        flow = flows.submit.submit_dag(self._session, name, jobs, agent_run_id, nonce=nonce)
        return AsyncDagHandle(self, await self._run(flow))

    @overload
    async def submit_yaml(
        self, path: str | os.PathLike[str], agent_run_id: str | None = None, wait: Literal[False] = False
    ) -> AsyncDagHandle: ...

    @overload
    async def submit_yaml(
        self,
        path: str | os.PathLike[str],
        agent_run_id: str | None = None,
        wait: bool = False,
        poll_interval: float = 2,
        timeout: float | None = 300,
    ) -> AsyncDagHandle | Literal[False]: ...

    async def submit_yaml(
        self,
        path: str | os.PathLike[str],
        agent_run_id: str | None = None,
        wait: bool = False,
        poll_interval: float = 2,  # noqa: ARG002 - upstream's
        timeout: float | None = 300,
    ) -> AsyncDagHandle | Literal[False]:
        """Submit the pipeline that a YAML file describes; in project mode its folder is uploaded first.

        Args:
            wait: return when every job has ended, or after ``timeout`` seconds.
            poll_interval: accepted for programs for upstream's SDK, without effect.

        Returns the DAG. With ``wait`` it is ``False``, as in upstream's SDK, unless every job has completed;
        ``DagHandle.wait`` tells which one failed, and why.

        Raises:
            InvalidPipeline: names file, line and key. Nothing was sent.
        """
        submission = await self._run(flows.pipeline.submit_yaml(self._session, path, agent_run_id))
        dag = AsyncDagHandle(self, submission)
        if wait:
            try:
                report = await dag.wait(timeout, raise_on_failure=False)
            except WaitTimedOut:
                return False
            if not report.state.is_success:
                return False
        return dag

    def job_handle(self, job_id: str, nonce: str | None = None) -> AsyncJobHandle:
        """A handle on a job that was submitted earlier or elsewhere; asks the master nothing.

        Args:
            nonce: which submission of the id is meant; default the latest one.
        """
        return AsyncJobHandle(self, flows.report.JobRef(job_id, nonce))

    async def find_dag(self, name: str, run: str | None = None) -> AsyncDagHandle:
        """The latest DAG submitted under that name through this SDK, or the run called ``run``.

        Raises:
            NotFound: there is none.
        """
        return AsyncDagHandle(self, await self._run(flows.manifest.find_dag(name, run)))

    async def get_job_status(self, job_id: str, *, nonce: str | None = None) -> JobStatus:
        """The master's word for the job; ``UNKNOWN`` when it has no such id (or its store is down).

        Args:
            nonce: which submission of the id is meant. A real Titan has one word per id and believes anybody who
                reports an end, so with the nonce only this submission's own record says that it is over.
        """
        if nonce is None:
            return await self._ask(wire.calls.job_status(job_id))
        return await self._run(flows.report.status_of(self._session, flows.report.JobRef(job_id, nonce)))

    async def get_job_statuses(
        self, job_ids: Sequence[str], *, wait: float = 0.0, nonces: Mapping[str, str] | None = None
    ) -> dict[str, JobStatus]:
        """As ``get_job_status``, for many jobs: by one request where the master has the feature ``wait``.

        Args:
            wait: seconds for which such a master may hold its answer until one of the jobs is over; one that is
                over already is answered at once.
            nonces: which submissions are meant, by id as given; see ``get_job_status``.
        """
        return await self._run(flows.wait.job_statuses(self._session, job_ids, wait, nonces))

    async def job_report(self, job_id: str, *, nonce: str | None = None) -> JobReport:
        """Everything known of the job now; does not wait."""
        return await self._run(flows.report.job_report(self._session, flows.report.JobRef(job_id, nonce)))

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
            flows.wait.wait_for_job(
                self._session, flows.report.JobRef(job_id, nonce), timeout, raise_on_failure
            )
        )

    async def cancel_job(self, job_id: str, *, nonce: str | None = None) -> JobStatus:
        """Cancel, and return what becomes of the job; one that has ended is left as it is. Idempotent.

        CANCELLED: it does not run, or ends within seconds; a running service is stopped. PENDING: nothing was sent, and
        the job runs when due, as a real Titan obeys no cancel of a job with ``runtime=False`` whose ``delay`` is not
        over. UNKNOWN: another client of a real Titan submitted it; a queued job does not run, a delayed one will.

        Args:
            nonce: which submission of the id is meant; default the latest one.

        Raises:
            NotFound: the master does not know the id.
            StoreUnavailable: a real Titan's store does not answer; the job may run all the same, so cancel again.
            WaitTimedOut: the service is still starting, and a real Titan cannot stop it yet.
            NotSupported: the service never came up, and a real Titan cannot stop it any more.
        """
        return await self._run(flows.cancel.cancel_job(self._session, flows.report.JobRef(job_id, nonce)))

    async def wait_stopped(
        self, job_id: str, timeout: float | None = None, *, nonce: str | None = None
    ) -> bool:
        """Wait until nothing is left of a cancelled job's run, whose script has its ``cancel_grace`` to end.

        Returns whether nothing is left. A real Titan is asked for the runtime's record; a job without the runtime has
        none, so true is returned at once there.

        Args:
            timeout: seconds after which it gives up and returns false.
            nonce: of the submission meant; by default the id's latest.

        Raises:
            NotFound: the bundled master does not know the job.
        """
        ref = flows.report.JobRef(job_id, nonce)
        return await self._run(flows.cancel.wait_stopped(self._session, ref, timeout))

    async def renew_owner_lease(self, job_id: str, *, nonce: str | None = None) -> None:
        """Say that whoever the job runs for is still there; wanted several times per ``owner_lease``. Idempotent.

        Raises:
            NotFound: nothing of the job is recorded, as it was not submitted with the runtime.
        """
        await self._run(flows.owner_lease.renew(flows.report.JobRef(job_id, nonce)))

    async def stop_service(self, service_id: str) -> str:
        """End a running service and its descendants; returns the master's words.

        Raises:
            NotFound: no service of that id is running.
        """
        return await self._ask(wire.calls.stop_service(service_id))

    # -- approval gates ---------------------------------------------------------------------------------------

    async def pending_approvals(self) -> list[PendingApproval]:
        """Gates (``TitanJob.hitl_message``) that wait for a decision now, the longest-waiting first."""
        return await self._run(flows.approvals.pending_approvals())

    async def approve(self, gate_or_job_id: str) -> str:
        """Let what depends on the job run; the gate's id. Idempotent.

        Raises:
            NotFound: no such gate is waiting.
            RequestRefused: the decision did not stay in the master's store.
        """
        return await self._run(flows.approvals.decide(gate_or_job_id, approved=True))

    async def reject(self, gate_or_job_id: str) -> str:
        """Let nothing that depends on the job run; otherwise as ``approve``."""
        return await self._run(flows.approvals.decide(gate_or_job_id, approved=False))

    # -- logs -------------------------------------------------------------------------------------------------

    async def fetch_logs(self, job_id: str, *, nonce: str | None = None) -> str:
        """Everything the job has printed so far, stdout and stderr merged; empty when there is nothing.

        Complete and ordered for jobs with the runtime; see docs/runtime.md for the others.
        """
        return await self._run(flows.logs.fetch_logs(self._session, flows.report.JobRef(job_id, nonce)))

    async def follow_logs(
        self, job_id: str, *, nonce: str | None = None, position: int = 0
    ) -> AsyncIterator[LogLine]:
        """New lines as they come, each once, until the job has ended.

        A line that the job rewrites by carriage returns also comes as it changes, at most once a second, with
        ``LogLine.is_final`` false.

        Args:
            position: where to go on; see ``LogFollower``.
        """
        follower = flows.logs.LogFollower(
            self._session, flows.report.JobRef(job_id, nonce), position=position
        )
        while not follower.done:
            for line in await self._run(follower.read()):
                yield line

    async def read_logs(
        self,
        job_id: str,
        *,
        nonce: str | None = None,
        position: int = 0,
        chunks: int = 64,
        until: int | None = None,
    ) -> LogPage:
        """What was printed from ``position`` on, at most some MiB at once, without waiting.

        Ask again with the page's ``position``. An empty page after the job's end is the end. Exact and complete for
        jobs with the runtime; otherwise as good as the master's own log.

        Args:
            chunks: bound of the page, in pieces of at most 256 KiB; only for jobs with the runtime, on a master that
                does not keep their logs itself.
            until: the position of an earlier page, beyond which nothing is read: the same page once more.
        """
        ref = flows.report.JobRef(job_id, nonce)
        return await self._run(flows.logs.read_logs(self._session, ref, position, chunks=chunks, until=until))

    async def job_details(self, job_id: str) -> JobDetails:
        """What the master itself knows of a job: why it waits, how many go first, its history.

        Raises:
            NotSupported: on a real master, which tells no more than the state.
            NotFound: the master does not know the job.
        """
        return await self._run(flows.server.job_details(self._session, job_id))

    # -- what the master has ----------------------------------------------------------------------------------

    async def list_jobs(
        self,
        *,
        states: Sequence[str] = (),
        tag: str | None = None,
        dag: str | None = None,
        run: str | None = None,
        prefix: str | None = None,
        contains: str | None = None,
        since: float | None = None,
        until: float | None = None,
        order: str = "newest",
        limit: int = 100,
        cursor: str | None = None,
        count: bool = False,
    ) -> ListPage[ListedJob]:
        """A page of the master's jobs and services that fit every filter given.

        Args:
            dag: the DAG's name; ``run``: one submission of it.
            prefix: how the id begins, with or without ``DAG-``.
            contains: a part of the id; upper and lower case ASCII letters are the same.
            since: submitted at this time or later, in unix seconds; ``until``: before that one.
            order: ``newest`` or ``oldest`` submission first; ``started`` or ``ended``, the latest first, leave out those
                that have not.
            limit: of the page, at most 1,000.
            cursor: that of the page before.
            count: tell the ``total``, too. That takes as long as to look through all jobs.

        Raises:
            InvalidArgument: an argument is of no use. Nothing was sent.
            NotSupported: on a real master, which cannot list.
        """
        page = order, limit, cursor, count
        request = wire.listing.List(
            "jobs", *page, tuple(states), tag, dag, run, prefix, contains, since, until
        )
        return await self._run(flows.listing.list_page(self._session, request, wire.listing.read_job))

    async def list_services(
        self,
        *,
        states: Sequence[str] = (),
        tag: str | None = None,
        prefix: str | None = None,
        contains: str | None = None,
        order: str = "newest",
        limit: int = 100,
        cursor: str | None = None,
        count: bool = False,
    ) -> ListPage[ListedJob]:
        """Services only, also ended ones; otherwise as ``list_jobs``."""
        page = order, limit, cursor, count
        request = wire.listing.List("services", *page, tuple(states), tag, prefix=prefix, contains=contains)
        return await self._run(flows.listing.list_page(self._session, request, wire.listing.read_job))

    async def list_dags(
        self,
        *,
        states: Sequence[str] = (),
        prefix: str | None = None,
        contains: str | None = None,
        since: float | None = None,
        until: float | None = None,
        order: str = "newest",
        limit: int = 100,
        cursor: str | None = None,
        count: bool = False,
    ) -> ListPage[ListedDag]:
        """Submissions of DAGs through this SDK; otherwise as ``list_jobs``. A job by itself is none.

        Args:
            states: with a job in one of them.
            prefix: how the DAG's name begins; ``contains``: a part of it.
            order: ``newest`` or ``oldest``.
        """
        page = order, limit, cursor, count
        request = wire.listing.List(
            "dags", *page, tuple(states), prefix=prefix, contains=contains, since=since, until=until
        )
        return await self._run(flows.listing.list_page(self._session, request, wire.listing.read_dag))

    async def list_artifacts(
        self,
        *,
        prefix: str | None = None,
        contains: str | None = None,
        since: float | None = None,
        until: float | None = None,
        order: str = "newest",
        limit: int = 100,
        cursor: str | None = None,
        count: bool = False,
    ) -> ListPage[ListedArtifact]:
        """Files of the master's registry, those that travel with jobs included; otherwise as ``list_jobs``.

        Args:
            since: written at this time or later; ``until``: before that one.
            order: ``newest`` or ``oldest``.
        """
        page = order, limit, cursor, count
        request = wire.listing.List(
            "artifacts", *page, prefix=prefix, contains=contains, since=since, until=until
        )
        return await self._run(flows.listing.list_page(self._session, request, wire.listing.read_artifact))

    async def changes(self, cursor: str | None = None, *, wait: float = 0.0) -> JobChanges:
        """Jobs that have changed since a cursor: that of a page (``ListPage.changes``) or of the changes before.

        Where ``list_again`` is set, or without a cursor, nothing but the present cursor is told.

        Args:
            wait: seconds, 25 at most, for which the master may hold its answer until there is a change.

        Raises:
            NotSupported: on a real master.
        """
        return await self._run(flows.listing.changes(self._session, cursor, wait))

    # -- the master -------------------------------------------------------------------------------------------

    async def server_info(self) -> ServerInfo:
        """Which master answers and what it can do beyond Titan v1; asked once per client."""
        return await self._run(flows.server.server_info(self._session))

    async def cluster_stats(self) -> ClusterStats:
        """Workers with tags and load, and the queue, at this instant."""
        return await self._run(flows.server.cluster_stats())

    # -- TitanStore: values and sets that all clients and jobs of a master share -------------------------------

    async def store_put(self, key: str, value: str) -> str:
        """Set a key to any text up to 512 Mi characters; read back exactly by ``store_get``. Last writer wins.

        Returns Titan's word ``OK``; anything else is raised. A value over 10 MiB is stored in parts, which only this SDK
        puts together again.

        Raises:
            PayloadTooLarge: larger than that. Nothing was sent.
            StoreUnavailable: the master's store does not keep it; ``outcome_unknown`` where another value reads back.
            ConnectionLost, TimedOut: ``outcome_unknown`` tells whether it may be there.
        """
        await self._run(flows.store.store_put(self._session, key, value))
        return "OK"

    async def store_get(self, key: str) -> str | None:
        """The key's text, or ``None`` when it is absent; of a real master also while its store is away, which it does not tell."""
        return await self._run(flows.store.store_get(key))

    async def store_sadd(self, key: str, member: str) -> int:
        """Add to a set: 1 when the member is new, 0 when it was there.

        Exact on the bundled master. A real one does not tell, so the members are read first: two clients that add
        the same member at the same instant may both read 1.

        Raises:
            StoreUnavailable: the master's store does not keep it.
        """
        return await self._run(flows.store.store_sadd(self._session, key, member))

    async def store_smembers(self, key: str) -> list[str]:
        """All members of a set, sorted; empty when there is no such set, and of a real master while its store is away."""
        return await self._run(flows.store.store_smembers(key))

    async def store_delete(self, key: str) -> bool:
        """Remove a value or a set; whether it was there. Idempotent.

        Raises:
            NotSupported: on a real master, which cannot delete.
        """
        return await self._run(flows.store.store_delete(self._session, key))

    async def store_keys(self, prefix: str = "") -> list[str]:
        """Keys of values and sets that begin with ``prefix``, sorted.

        Raises:
            NotSupported: on a real master, which cannot list.
        """
        return await self._run(flows.store.store_keys(self._session, prefix))

    async def store_expire(self, key: str, seconds: float) -> bool:
        """Delete a key after ``seconds``, unless it is written again before; whether it is there.

        Raises:
            NotSupported: on a real master, which keeps everything.
        """
        return await self._run(flows.store.store_expire(self._session, key, seconds))

    async def store_swap(self, key: str, expected: str | None, value: str | None) -> bool:
        """Compare and set: write ``value`` only if the key holds ``expected``; whether it was written.

        ``expected=None`` means absent, ``value=None`` deletes. Atomic among all clients of the master.

        Raises:
            NotSupported: on a real master, which has no such operation.
        """
        return await self._run(flows.store.store_swap(self._session, key, expected, value))

    # -- the artifact registry: files by name ------------------------------------------------------------------

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
        return await self._run(flows.artifacts.upload_file(self._session, path, progress))

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
        return await self._run(
            flows.artifacts.upload_project_folder(self._session, path, project_name, progress)
        )

    async def fetch_artifact(
        self,
        name: str | FileRef | Mapping[str, Any],
        save_path: str | os.PathLike[str] | None = None,
        *,
        progress: Progress | None = None,
    ) -> Path:
        """Write an artifact to ``save_path``, default its base name in the current folder; whole or not at all.

        Args:
            name: a name, or the reference of a job's file (``report.outputs``, an XCom), whose checksum is checked then.

        Raises:
            NotFound: the registry has no artifact of that name.
            CorruptData: it holds something else under that name than the reference means.
        """
        return await self._run(flows.artifacts.fetch_artifact(self._session, name, save_path, progress))

    async def delete_artifact(self, name: str | FileRef | Mapping[str, Any]) -> bool:
        """Remove an artifact, by its name or reference; whether it was there. Idempotent.

        A job that was to get it fails, and says so.

        Raises:
            NotSupported: on a real master, which keeps everything.
        """
        return await self._run(flows.artifacts.delete_artifact(self._session, name))

    async def publish_artifact(self, key: str, path: str | os.PathLike[str]) -> ArtifactRef:
        """Upload a file, or a folder as a zip, and store its name in TitanStore under ``key``: ``titan://KEY`` for a job's
        ``inputs``.

        Raises:
            MissingFile, PayloadTooLarge: as ``upload_file``.
            StoreUnavailable: as ``store_put``; the file is uploaded.
        """
        return await self._run(flows.artifacts.publish_artifact(self._session, key, path))

    async def get_artifact(self, key: str, save_path: str | os.PathLike[str] | None = None) -> Path:
        """Fetch the file that was published under ``key``; see ``fetch_artifact``.

        Raises:
            NotFound: nothing is published under the key.
            StoreUnavailable: the master's store does not answer, so nobody knows.
        """
        return await self._run(flows.artifacts.get_artifact(self._session, key, save_path))

    async def get_checkpoint(self, key: str) -> Checkpoint | None:
        """What jobs with that ``checkpoint_key`` have kept; ``None`` where there is nothing."""
        return await self._run(flows.checkpoints.get_checkpoint(key))

    async def list_checkpoints(self, prefix: str = "") -> list[Checkpoint]:
        """All checkpoints whose keys begin so, sorted. A real master cannot list them (``NotSupported``)."""
        return await self._run(flows.checkpoints.list_checkpoints(self._session, prefix))

    async def remove_checkpoint(self, key: str) -> bool:
        """Remove a checkpoint: the next job with that key starts from nothing; whether there was one. Idempotent."""
        return await self._run(flows.checkpoints.remove_checkpoint(self._session, key))

    async def deploy_script(self, path: str | os.PathLike[str]) -> ArtifactRef:
        """Put a script into the master's own script folder under its base name. Idempotent."""
        return await self._run(flows.artifacts.deploy_script(path))
