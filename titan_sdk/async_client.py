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

    The constructor does not connect. Ids may be given with or without Titan's ``DAG-`` prefix. Methods raise
    subclasses of ``TitanError``; they belong to the event loop they are awaited on, may run concurrently, and are safe
    to cancel.

    Args:
        host: default ``TITAN_HOST``, else ``localhost``.
        port: default ``TITAN_PORT``, else 9090.
        config: all settings (timeouts, ``worker_address``), in place of ``host`` and ``port``.
    """

    def __init__(
        self, host: str | None = None, port: int | None = None, *, config: ClientConfig | None = None
    ) -> None:
        self.config = ClientConfig.choose(config, host, port, os.environ)
        self._session = Session(self.config)
        if self.config.dashboard_url:
            from titan_sdk.dashboard import report_submission  # few clients have a dashboard

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
        # One call without a flow around it, because some calls are polled thousands of times.
        return await self._driver.ask(call)

    # -- jobs and DAGs ----------------------------------------------------------------------------------------

    async def submit_job(self, job: TitanJob, *, nonce: str | None = None) -> AsyncJobHandle:
        """Send one job and check that the master took it. Not idempotent; the client never repeats a submit by itself.

        Args:
            nonce: 16 hex digits that name this submission. A caller chooses them to record them before the submit.

        Raises:
            InvalidDag: the id is still in use, or a parent is unknown. Nothing was sent.
            RequestRefused: the bundled master refused the job.
            StoreUnavailable: the master's store does not answer. Nothing was sent.
            SubmissionUnconfirmed: the job was sent, and the outcome is unknown.
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
        """Send linked jobs as one DAG and check that the master took each of them.

        Args:
            agent_run_id: recorded in the DAG's manifest; no effect on scheduling.
            nonce: see ``submit_job``.

        Raises:
            InvalidDag: an id is there twice, a parent is unknown, or there is a cycle. Nothing was sent.
            RequestRefused, StoreUnavailable, SubmissionUnconfirmed: see ``submit_job``.
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
        """Submit the pipeline of a YAML file; in project mode the file's folder is uploaded first.

        Args:
            wait: return when every job has ended, or after ``timeout`` seconds.
            poll_interval: has no effect; it is accepted because programs for upstream's SDK pass it.

        Returns the DAG. With ``wait``, returns ``False`` unless every job has completed, as upstream's SDK does;
        ``DagHandle.wait`` reports the failed job and the reason.

        Raises:
            InvalidPipeline: the file has an error; the sentence names file, line and key. Nothing was sent.
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
        """A handle on a job that was submitted earlier or elsewhere. No request is sent.

        Args:
            nonce: the submission of the id; by default the latest one.
        """
        return AsyncJobHandle(self, flows.report.JobRef(job_id, nonce))

    async def find_dag(self, name: str, run: str | None = None) -> AsyncDagHandle:
        """The latest DAG of that name that was submitted through this SDK, or its run ``run``.

        Raises:
            NotFound: there is no such DAG or run.
        """
        return AsyncDagHandle(self, await self._run(flows.manifest.find_dag(name, run)))

    async def get_job_status(self, job_id: str, *, nonce: str | None = None) -> JobStatus:
        """The job's state on the master; ``UNKNOWN`` if the master has no such id, or its store is down.

        Args:
            nonce: the submission of the id. A real Titan has one state per id and accepts an end from any sender. With
                the nonce, only this submission's own record ends the job.
        """
        if nonce is None:
            return await self._ask(wire.calls.job_status(job_id))
        return await self._run(flows.report.status_of(self._session, flows.report.JobRef(job_id, nonce)))

    async def get_job_statuses(
        self, job_ids: Sequence[str], *, wait: float = 0.0, nonces: Mapping[str, str] | None = None
    ) -> dict[str, JobStatus]:
        """The states of many jobs, in one request if the master has the feature ``wait``. See ``get_job_status``.

        Args:
            wait: seconds. A master with that feature holds its answer until one of the jobs has ended, or for so long.
                If one has ended already, the answer comes at once.
            nonces: the submissions, by the ids in ``job_ids``; see ``get_job_status``.
        """
        return await self._run(flows.wait.job_statuses(self._session, job_ids, wait, nonces))

    async def job_report(self, job_id: str, *, nonce: str | None = None) -> JobReport:
        """All that is known of the job now. Does not wait."""
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
            JobFailed: the job ended without success; not raised if ``raise_on_failure`` is false.
            WaitTimedOut: the time is over; the job goes on.
            NotFound: the master does not know the id.
        """
        return await self._run(
            flows.wait.wait_for_job(
                self._session, flows.report.JobRef(job_id, nonce), timeout, raise_on_failure
            )
        )

    async def cancel_job(self, job_id: str, *, nonce: str | None = None) -> JobStatus:
        """Cancel the job and return its state after the cancel. A job that has ended does not change. Idempotent.

        CANCELLED: the job does not run, or ends within seconds; a running service is stopped. PENDING: nothing was
        sent, and the job runs when due, because a real Titan ignores the cancel of a job with ``runtime=False`` during
        its ``delay``. UNKNOWN: another client of a real Titan submitted the job; if it is queued it does not run, if it
        is delayed it will.

        Args:
            nonce: the submission of the id; by default the latest one.

        Raises:
            NotFound: the master does not know the id.
            StoreUnavailable: a real Titan's store does not answer. The job may still run, so cancel again.
            WaitTimedOut: the service is still starting, and a real Titan cannot stop it yet.
            NotSupported: the service never came up, and a real Titan cannot stop it any more.
        """
        return await self._run(flows.cancel.cancel_job(self._session, flows.report.JobRef(job_id, nonce)))

    async def wait_stopped(
        self, job_id: str, timeout: float | None = None, *, nonce: str | None = None
    ) -> bool:
        """Wait until no process of a cancelled job is left. Its script has ``cancel_grace`` seconds to end.

        Returns true if no process is left. On a real Titan the runtime's record decides; a job without the runtime has
        no record there, so true is returned at once.

        Args:
            timeout: seconds, then false is returned.
            nonce: the submission of the id; by default the latest one.

        Raises:
            NotFound: the bundled master does not know the job.
        """
        ref = flows.report.JobRef(job_id, nonce)
        return await self._run(flows.cancel.wait_stopped(self._session, ref, timeout))

    async def renew_owner_lease(self, job_id: str, *, nonce: str | None = None) -> None:
        """Tell the job that its owner is still alive. Call this several times per ``owner_lease``. Idempotent.

        Raises:
            NotFound: the job has no record, because it was not submitted with the runtime.
        """
        await self._run(flows.owner_lease.renew(flows.report.JobRef(job_id, nonce)))

    async def stop_service(self, service_id: str) -> str:
        """End a running service and its descendants. Returns the master's sentence.

        Raises:
            NotFound: no service of that id is running.
        """
        return await self._ask(wire.calls.stop_service(service_id))

    # -- approval gates ---------------------------------------------------------------------------------------

    async def pending_approvals(self) -> list[PendingApproval]:
        """The gates (``TitanJob.hitl_message``) that wait for a decision, the oldest first."""
        return await self._run(flows.approvals.pending_approvals())

    async def approve(self, gate_or_job_id: str) -> str:
        """Let the jobs that depend on this one run. Returns the gate's id. Idempotent.

        Raises:
            NotFound: no such gate is waiting.
            RequestRefused: the master's store lost the decision.
        """
        return await self._run(flows.approvals.decide(gate_or_job_id, approved=True))

    async def reject(self, gate_or_job_id: str) -> str:
        """Keep the jobs that depend on this one from running. Otherwise like ``approve``."""
        return await self._run(flows.approvals.decide(gate_or_job_id, approved=False))

    # -- logs -------------------------------------------------------------------------------------------------

    async def fetch_logs(self, job_id: str, *, nonce: str | None = None) -> str:
        """The output of the job so far, stdout and stderr merged.

        For jobs with the runtime it is complete and in order. For other jobs, see docs/runtime.md.
        """
        return await self._run(flows.logs.fetch_logs(self._session, flows.report.JobRef(job_id, nonce)))

    async def follow_logs(
        self, job_id: str, *, nonce: str | None = None, position: int = 0
    ) -> AsyncIterator[LogLine]:
        """The lines of the log as they are printed, each once, until the job has ended.

        A line that the job rewrites with carriage returns also comes while it changes, at most once a second, with
        ``LogLine.is_final`` false.

        Args:
            position: the start; see ``LogFollower``.
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
        """One page of the log from ``position`` on, at most some MiB. Does not wait.

        The page's ``position`` is the start of the next one. An empty page after the job's end is the last one. For
        jobs with the runtime the log is exact and complete; otherwise it is the master's own log.

        Args:
            chunks: limit of the page, in pieces of at most 256 KiB. It counts for jobs with the runtime on a master that
                does not keep their logs itself.
            until: the position at which the page ends, to read an earlier page again.
        """
        ref = flows.report.JobRef(job_id, nonce)
        return await self._run(flows.logs.read_logs(self._session, ref, position, chunks=chunks, until=until))

    async def job_details(self, job_id: str) -> JobDetails:
        """The master's own view of a job: why it waits, how many jobs are before it, its history.

        Raises:
            NotSupported: on a real master, which reports the state only.
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
        """A page of the master's jobs and services that match all given filters.

        Args:
            dag: the DAG's name; ``run``: one submission of it.
            prefix: the beginning of the id, with or without ``DAG-``.
            contains: a part of the id, in upper or lower case (ASCII).
            since: the earliest time of the submit, in unix seconds; ``until``: the first time that is too late.
            order: ``newest`` or ``oldest`` sorts by the submit. ``started`` or ``ended`` puts the latest first and lists
                only jobs that have started or ended.
            limit: of the page, at most 1,000.
            cursor: the ``cursor`` of the page before.
            count: also return the ``total``. The master then reads all its jobs, which takes time.

        Raises:
            InvalidArgument: an argument is not valid. Nothing was sent.
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
        """A page of the services, ended ones included. See ``list_jobs``."""
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
        """A page of the DAGs that were submitted through this SDK, without single jobs. See ``list_jobs``.

        Args:
            states: at least one job is in one of these states.
            prefix: the beginning of the DAG's name; ``contains``: a part of it.
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
        """A page of the files in the master's registry, including those that travel with jobs. See ``list_jobs``.

        Args:
            since: the earliest time of the write; ``until``: the first time that is too late.
            order: ``newest`` or ``oldest``.
        """
        page = order, limit, cursor, count
        request = wire.listing.List(
            "artifacts", *page, prefix=prefix, contains=contains, since=since, until=until
        )
        return await self._run(flows.listing.list_page(self._session, request, wire.listing.read_artifact))

    async def changes(self, cursor: str | None = None, *, wait: float = 0.0) -> JobChanges:
        """The jobs that have changed since a cursor: that of a page (``ListPage.changes``) or of earlier changes.

        Without a cursor, and where ``list_again`` is set, the answer has the present cursor only.

        Args:
            wait: seconds, 25 at most. The master holds its answer until there is a change, or for so long.

        Raises:
            NotSupported: on a real master.
        """
        return await self._run(flows.listing.changes(self._session, cursor, wait))

    # -- the master -------------------------------------------------------------------------------------------

    async def server_info(self) -> ServerInfo:
        """The master's software and its features beyond Titan v1. One request per client."""
        return await self._run(flows.server.server_info(self._session))

    async def cluster_stats(self) -> ClusterStats:
        """The workers with their tags and load, and the queue, at this moment."""
        return await self._run(flows.server.cluster_stats())

    # -- TitanStore: values and sets that all clients and jobs of a master share -------------------------------

    async def store_put(self, key: str, value: str) -> str:
        """Set a key to any text up to 512 Mi characters. ``store_get`` returns exactly this text. The last write wins.

        Returns Titan's word ``OK``; any other answer is an exception. A value over 10 MiB is stored in parts, which
        only this SDK can join.

        Raises:
            PayloadTooLarge: the text is larger than that. Nothing was sent.
            StoreUnavailable: the master's store lost the value; ``outcome_unknown`` if another value is read back.
            ConnectionLost, TimedOut: the value may be stored if ``outcome_unknown`` is set.
        """
        await self._run(flows.store.store_put(self._session, key, value))
        return "OK"

    async def store_get(self, key: str) -> str | None:
        """The key's text, or ``None`` if there is none. A real master answers ``None`` also while its store is away."""
        return await self._run(flows.store.store_get(key))

    async def store_sadd(self, key: str, member: str) -> int:
        """Add a member to a set. Returns 1 if it is new, 0 if it was there.

        The bundled master answers exactly. A real one does not say, so the members are read first: if two clients add
        the same member at the same moment, both may get 1.

        Raises:
            StoreUnavailable: the master's store lost the member.
        """
        return await self._run(flows.store.store_sadd(self._session, key, member))

    async def store_smembers(self, key: str) -> list[str]:
        """The members of a set, sorted. Empty if there is no such set; on a real master also while its store is away."""
        return await self._run(flows.store.store_smembers(key))

    async def store_delete(self, key: str) -> bool:
        """Remove a value or a set. Returns whether it was there. Idempotent.

        Raises:
            NotSupported: on a real master, which cannot delete.
        """
        return await self._run(flows.store.store_delete(self._session, key))

    async def store_keys(self, prefix: str = "") -> list[str]:
        """The keys of values and sets that begin with ``prefix``, sorted.

        Raises:
            NotSupported: on a real master, which cannot list.
        """
        return await self._run(flows.store.store_keys(self._session, prefix))

    async def store_expire(self, key: str, seconds: float) -> bool:
        """Delete a key after ``seconds``, unless it is written before that. Returns whether the key is there.

        Raises:
            NotSupported: on a real master, which keeps everything.
        """
        return await self._run(flows.store.store_expire(self._session, key, seconds))

    async def store_swap(self, key: str, expected: str | None, value: str | None) -> bool:
        """Compare and set: write ``value`` if the key holds ``expected``. Returns whether it was written.

        ``expected=None`` means that the key is absent; ``value=None`` deletes it. Atomic among all clients of the master.

        Raises:
            NotSupported: on a real master, which has no such operation.
        """
        return await self._run(flows.store.store_swap(self._session, key, expected, value))

    # -- the artifact registry: files by name ------------------------------------------------------------------

    async def upload_file(
        self, path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> ArtifactRef:
        """Store a file in the artifact registry under its base name, in place of an earlier one. Idempotent.

        Args:
            progress: called with the number of bytes sent, and of all bytes.

        Raises:
            MissingFile: there is no such file.
            PayloadTooLarge: the file is over about 7.86 MB, the packet limit of a real master. Nothing was sent.
        """
        return await self._run(flows.artifacts.upload_file(self._session, path, progress))

    async def upload_project_folder(
        self,
        path: str | os.PathLike[str],
        project_name: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> ArtifactRef:
        """Zip a folder and store it as ``<project_name>.zip``, by default under the folder's name. Idempotent.

        The zip leaves out caches, and the files that a ``.titanignore`` in the folder names (in the syntax of a
        .gitignore). Equal files give equal zips.

        Raises:
            MissingFile, PayloadTooLarge: see ``upload_file``.
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
        """Write an artifact to ``save_path``, by default to its base name in the current folder; whole or not at all.

        Args:
            name: a name, or the reference of a job's file (``report.outputs``, an XCom). A reference has a checksum,
                which is verified.

        Raises:
            NotFound: the registry has no artifact of that name.
            CorruptData: the content under that name is not the content of the reference.
        """
        return await self._run(flows.artifacts.fetch_artifact(self._session, name, save_path, progress))

    async def delete_artifact(self, name: str | FileRef | Mapping[str, Any]) -> bool:
        """Remove an artifact by its name or reference. Returns whether it was there. Idempotent.

        A job that needs the artifact fails with a sentence that names it.

        Raises:
            NotSupported: on a real master, which keeps everything.
        """
        return await self._run(flows.artifacts.delete_artifact(self._session, name))

    async def publish_artifact(self, key: str, path: str | os.PathLike[str]) -> ArtifactRef:
        """Upload a file, or a folder as a zip, and store its name in TitanStore under ``key``. Jobs then take
        ``titan://KEY`` as an input.

        Raises:
            MissingFile, PayloadTooLarge: see ``upload_file``.
            StoreUnavailable: see ``store_put``; the file is uploaded.
        """
        return await self._run(flows.artifacts.publish_artifact(self._session, key, path))

    async def get_artifact(self, key: str, save_path: str | os.PathLike[str] | None = None) -> Path:
        """Fetch the file that was published under ``key``. See ``fetch_artifact``.

        Raises:
            NotFound: no file is published under the key.
            StoreUnavailable: the master's store does not answer.
        """
        return await self._run(flows.artifacts.get_artifact(self._session, key, save_path))

    async def get_checkpoint(self, key: str) -> Checkpoint | None:
        """The checkpoint of the jobs with that ``checkpoint_key``, or ``None``."""
        return await self._run(flows.checkpoints.get_checkpoint(key))

    async def list_checkpoints(self, prefix: str = "") -> list[Checkpoint]:
        """The checkpoints whose keys begin with ``prefix``, sorted. A real master cannot list them (``NotSupported``)."""
        return await self._run(flows.checkpoints.list_checkpoints(self._session, prefix))

    async def remove_checkpoint(self, key: str) -> bool:
        """Remove a checkpoint, so that the next job with that key starts anew. Returns whether it was there. Idempotent."""
        return await self._run(flows.checkpoints.remove_checkpoint(self._session, key))

    async def deploy_script(self, path: str | os.PathLike[str]) -> ArtifactRef:
        """Put a script into the master's own script folder under its base name. Idempotent."""
        return await self._run(flows.artifacts.deploy_script(path))
