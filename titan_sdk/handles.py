# Made from async_handles.py by `make unasync`: edit that file, not this one.
"""The handles that a submit of ``TitanClient`` returns: a job or a DAG to query, wait for and cancel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from titan_sdk import flows
from titan_sdk.model.upstream_words import Accepted

if TYPE_CHECKING:
    from titan_sdk.client import TitanClient
    from titan_sdk.flows.manifest import Submission
    from titan_sdk.flows.report import JobRef
    from titan_sdk.flows.resubmit import Track
    from titan_sdk.model.loglines import LogLine
    from titan_sdk.model.report import DagReport, JobReport
    from titan_sdk.model.status import JobStatus

__all__ = ["DagHandle", "JobHandle"]


class JobHandle(Accepted):
    """One submitted job. Holds no connection; use it from any thread, as long as the client is not closed."""

    def __init__(self, client: TitanClient, ref: JobRef, track: Track | None = None, index: int = 0) -> None:
        self._client = client
        self._given = ref
        self._track = track
        self._index = index

    @property
    def _ref(self) -> JobRef:
        return self._given if self._track is None else self._track.ref(self._index)

    @property
    def job_id(self) -> str:
        """The id as it was given; a new id after ``wait`` has submitted the job again."""
        return self._ref.job_id

    @property
    def full_id(self) -> str:
        """The id as the master knows it, with ``DAG-``."""
        return self._ref.full_id

    @property
    def nonce(self) -> str | None:
        """Tells this submission from others of the same id; ``None`` if the job has no runtime."""
        return self._ref.nonce

    def status(self) -> JobStatus:
        """The state of this submission. A real master mixes up the submissions of one id; this method does not."""
        return self._client.get_job_status(self.job_id, nonce=self.nonce)

    def report(self) -> JobReport:
        """All that is known of the job now. Does not wait."""
        return self._client._run(flows.report.job_report(self._client._session, self._ref))

    def wait(
        self, timeout: float | None = None, raise_on_failure: bool = True, *, max_resubmits: int = 3
    ) -> JobReport:
        """Block until the job has ended.

        Args:
            timeout: seconds; ``None`` waits for ever.
            max_resubmits: how often the job is submitted again if the master gave it up before its first start
                (``JobReport.never_started``). It gets a new id, and so do the jobs that wait for it. This applies only
                to handles that a submit returned.

        Raises:
            JobFailed: the job ended without success; not raised if ``raise_on_failure`` is false.
            WaitTimedOut: the time is over; the job goes on.
        """
        session = self._client._session
        if self._track is None:
            return self._client._run(flows.wait.wait_for_job(session, self._ref, timeout, raise_on_failure))
        return self._client._run(
            flows.resubmit.wait_for_tracked_job(
                session, self._track, self._index, timeout, raise_on_failure, max_resubmits
            )
        )

    def logs(self) -> str:
        """The output of the job so far."""
        return self._client.fetch_logs(self.job_id, nonce=self.nonce)

    def follow_logs(self) -> Iterator[LogLine]:
        """The lines of the log as they are printed, each once, until the job has ended.

        A line that the job rewrites with carriage returns also comes while it changes, at most once a second, with
        ``LogLine.is_final`` false.
        """
        return self._client.follow_logs(self.job_id, nonce=self.nonce)

    def result(self, *, allowed_classes: Iterable[type | str] = (), serializer: str = "json") -> Any:
        """The value that the script passed to ``titan_job.result``. Does not wait.

        Args:
            allowed_classes: the classes that objects in the result may have, or their names as ``module.Class``. In a
                name, ``*`` matches anything.
            serializer: ``cloudpickle`` for a pickled result. Unpickling runs the code in it.

        Raises:
            ResultUnavailable: the job has not completed, or has no result.
            UnreadableValue: the result has an object of another class, or needs a package that is not installed.
        """
        return self._client._run(
            flows.report.job_result(self._client._session, self._ref, allowed_classes, serializer)
        )

    def cancel(self) -> JobStatus:
        """Cancel the job and return its state after the cancel. A job that has ended does not change. Idempotent."""
        return self._client.cancel_job(self.job_id, nonce=self.nonce)

    def __repr__(self) -> str:
        return f"<JobHandle {self.job_id!r} on {self._client.config.address}>"


class DagHandle(Accepted):
    """One submitted DAG."""

    def __init__(self, client: TitanClient, submission: Submission) -> None:
        self._client = client
        self._track = flows.resubmit.Track(submission)
        self.name = submission.name
        self.run_id = submission.run_id
        """The name of this submission in the manifest."""
        self.jobs = tuple(
            JobHandle(client, self._track.ref(index), self._track, index)
            for index in range(len(submission.jobs))
        )
        """One handle per job, in the given order. An approval gate comes after the job that it follows."""

    def __getitem__(self, job_id: str) -> JobHandle:
        wanted = flows.report.JobRef(job_id).full_id
        for job in self.jobs:
            if wanted in {job.full_id, job._given.full_id}:
                return job
        raise KeyError(f"DAG {self.name!r} has no job {job_id!r}; it has {[job.job_id for job in self.jobs]}")

    def report(self) -> DagReport:
        """The report of every job now. Does not wait."""
        return self._client._run(
            flows.wait.dag_report(self._client._session, self.name, self._track.targets())
        )

    def status(self) -> JobStatus:
        """One state for the whole DAG: COMPLETED if all jobs have completed."""
        report = self.report()
        return report.state

    def wait(
        self, timeout: float | None = None, raise_on_failure: bool = True, *, max_resubmits: int = 3
    ) -> DagReport:
        """Block until every job has ended, or can never run because a parent failed.

        Args:
            max_resubmits: see ``JobHandle.wait``.

        Raises:
            DagFailed: a job ended without success; not raised if ``raise_on_failure`` is false.
            WaitTimedOut: ``timeout`` seconds are over; the DAG goes on.
        """
        return self._client._run(
            flows.resubmit.wait_for_tracked_dag(
                self._client._session, self._track, timeout, raise_on_failure, max_resubmits
            )
        )

    def result(
        self, job_id: str, *, allowed_classes: Iterable[type | str] = (), serializer: str = "json"
    ) -> Any:
        """The result of one job. Does not wait. See ``JobHandle.result``."""
        return self[job_id].result(allowed_classes=allowed_classes, serializer=serializer)

    def cancel(self) -> dict[str, JobStatus]:
        """Cancel every job that has not ended. Returns the states after the cancel, by job id. Idempotent."""
        return self._client._run(
            flows.cancel.cancel_dag(self._client._session, [job._ref for job in self.jobs])
        )

    def __repr__(self) -> str:
        return f"<DagHandle {self.name!r} run {self.run_id}: {len(self.jobs)} jobs on {self._client.config.address}>"
