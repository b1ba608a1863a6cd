"""What a submit of ``AsyncTitanClient`` returns: a job or DAG to ask, wait for, read and cancel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from titan_sdk import flows
from titan_sdk.model.upstream_words import Accepted

if TYPE_CHECKING:
    from titan_sdk.async_client import AsyncTitanClient
    from titan_sdk.flows.manifest import Submission
    from titan_sdk.flows.report import JobRef
    from titan_sdk.flows.resubmit import Track
    from titan_sdk.model.loglines import LogLine
    from titan_sdk.model.report import DagReport, JobReport
    from titan_sdk.model.status import JobStatus

__all__ = ["AsyncDagHandle", "AsyncJobHandle"]


class AsyncJobHandle(Accepted):
    """One submitted job. Holds no connection; use it on its client's event loop, as long as the client is not closed."""

    def __init__(
        self, client: AsyncTitanClient, ref: JobRef, track: Track | None = None, index: int = 0
    ) -> None:
        self._client = client
        self._given = ref
        self._track = track
        self._index = index

    @property
    def _ref(self) -> JobRef:
        return self._given if self._track is None else self._track.ref(self._index)

    @property
    def job_id(self) -> str:
        """The id as it was given; a new one once ``wait`` had to submit the job again."""
        return self._ref.job_id

    @property
    def full_id(self) -> str:
        """The id as the master knows it, with ``DAG-``."""
        return self._ref.full_id

    @property
    def nonce(self) -> str | None:
        """Names this submission among all of the id; ``None`` where no runtime travels with the job."""
        return self._ref.nonce

    async def status(self) -> JobStatus:
        """How this submission stands now; other submissions of the id, which a real master mixes up, do not count."""
        return await self._client.get_job_status(self.job_id, nonce=self.nonce)

    async def report(self) -> JobReport:
        """Everything known now; does not wait."""
        return await self._client._run(flows.report.job_report(self._client._session, self._ref))

    async def wait(
        self, timeout: float | None = None, raise_on_failure: bool = True, *, max_resubmits: int = 3
    ) -> JobReport:
        """Wait until the job has ended.

        Args:
            timeout: seconds; ``None`` waits for ever.
            max_resubmits: how often a job that the master gave up without ever starting it
                (``JobReport.never_started``) is submitted again, with what waits for it, under a new id. Only for
                handles that a submit returned; 0 never does.

        Raises:
            JobFailed: it ended without success, unless ``raise_on_failure`` is false.
            WaitTimedOut: the time is over; the job goes on.
        """
        session = self._client._session
        if self._track is None:
            return await self._client._run(
                flows.wait.wait_for_job(session, self._ref, timeout, raise_on_failure)
            )
        return await self._client._run(
            flows.resubmit.wait_for_tracked_job(
                session, self._track, self._index, timeout, raise_on_failure, max_resubmits
            )
        )

    async def logs(self) -> str:
        """Everything printed so far."""
        return await self._client.fetch_logs(self.job_id, nonce=self.nonce)

    def follow_logs(self) -> AsyncIterator[LogLine]:
        """New lines as they come, each once, until the job has ended.

        A line that the job rewrites by carriage returns also comes as it changes, at most once a second, with
        ``LogLine.is_final`` false.
        """
        return self._client.follow_logs(self.job_id, nonce=self.nonce)

    async def result(self, *, allowed_classes: Iterable[type | str] = (), serializer: str = "json") -> Any:
        """What the script gave to ``titan_job.result``; does not wait.

        Args:
            allowed_classes: classes of which the result may hold objects, or their names as ``module.Class``, in which
                ``*`` stands for anything.
            serializer: ``cloudpickle`` for a result that is pickled; unpickling runs what is in it.

        Raises:
            ResultUnavailable: the job has not completed, or left no result.
            UnreadableValue: it holds an object of another class, or needs a package that is not here.
        """
        return await self._client._run(
            flows.report.job_result(self._client._session, self._ref, allowed_classes, serializer)
        )

    async def cancel(self) -> JobStatus:
        """Cancel, and return the state after it; a job that has ended is left as it is. Idempotent."""
        return await self._client.cancel_job(self.job_id, nonce=self.nonce)

    def __repr__(self) -> str:
        return f"<AsyncJobHandle {self.job_id!r} on {self._client.config.address}>"


class AsyncDagHandle(Accepted):
    """One submitted DAG."""

    def __init__(self, client: AsyncTitanClient, submission: Submission) -> None:
        self._client = client
        self._track = flows.resubmit.Track(submission)
        self.name = submission.name
        self.run_id = submission.run_id
        """Names this submission in the manifest."""
        self.jobs = tuple(
            AsyncJobHandle(client, self._track.ref(index), self._track, index)
            for index in range(len(submission.jobs))
        )
        """One handle per job, in the order given; approval gates stand behind the jobs they follow."""

    def __getitem__(self, job_id: str) -> AsyncJobHandle:
        wanted = flows.report.JobRef(job_id).full_id
        for job in self.jobs:
            if wanted in {job.full_id, job._given.full_id}:
                return job
        raise KeyError(f"DAG {self.name!r} has no job {job_id!r}; it has {[job.job_id for job in self.jobs]}")

    async def report(self) -> DagReport:
        """Every job as it stands now; does not wait."""
        return await self._client._run(
            flows.wait.dag_report(self._client._session, self.name, self._track.targets())
        )

    async def status(self) -> JobStatus:
        """One word for the whole DAG: COMPLETED when all jobs are."""
        report = await self.report()
        return report.state

    async def wait(
        self, timeout: float | None = None, raise_on_failure: bool = True, *, max_resubmits: int = 3
    ) -> DagReport:
        """Wait until every job has ended or can never run because a parent failed.

        Args:
            max_resubmits: as ``JobHandle.wait``.

        Raises:
            DagFailed: a job ended without success, unless ``raise_on_failure`` is false.
            WaitTimedOut: ``timeout`` seconds are over; the DAG goes on.
        """
        return await self._client._run(
            flows.resubmit.wait_for_tracked_dag(
                self._client._session, self._track, timeout, raise_on_failure, max_resubmits
            )
        )

    async def result(
        self, job_id: str, *, allowed_classes: Iterable[type | str] = (), serializer: str = "json"
    ) -> Any:
        """What that job gave to ``titan_job.result``; does not wait. As that of a job's handle."""
        return await self[job_id].result(allowed_classes=allowed_classes, serializer=serializer)

    async def cancel(self) -> dict[str, JobStatus]:
        """Cancel every job that has not ended; the states after it, by job id. Idempotent."""
        return await self._client._run(
            flows.cancel.cancel_dag(self._client._session, [job._ref for job in self.jobs])
        )

    def __repr__(self) -> str:
        return f"<AsyncDagHandle {self.name!r} run {self.run_id}: {len(self.jobs)} jobs on {self._client.config.address}>"
