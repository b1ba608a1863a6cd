"""Reports of jobs and DAGs: frozen values that can describe themselves in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from titan_sdk.model.files import FileRef
from titan_sdk.model.status import JobStatus

__all__ = ["DagReport", "JobDetails", "JobReport", "LogPage", "RemoteException"]


@dataclass(frozen=True, slots=True)
class RemoteException:
    """An uncaught Python exception of the user's script on the worker."""

    type: str
    message: str
    traceback: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True)
class JobReport:
    """The state of a job, and how it ended.

    All fields except ``job_id`` and ``state`` come from the job's runtime. They are ``None`` (or 0) for jobs without it.
    Times are unix seconds on the worker's clock.
    """

    job_id: str
    state: JobStatus
    exit_code: int | None = None
    signal: str | None = None
    attempts: int = 0
    worker: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exception: RemoteException | None = None
    reason: str | None = None
    """The reason as a sentence, if neither exit code nor exception explains the end."""
    has_result: bool = False
    result: Any = None
    """The value given to ``titan_job.result(obj)``. It is valid only if ``has_result``. If it cannot be read here, because
    its class is not allowed or a package is missing, it is a ``titan_sdk.values.Envelope``."""
    received: Any = field(default=None, repr=False, compare=False)
    """The JSON form of the result, for ``titan_sdk.values.load``."""
    outputs: Mapping[str, FileRef | tuple[FileRef, ...]] = field(default_factory=dict)
    """The published files, by name: the ``outputs`` of a job that succeeded, and the files given to ``titan_job.publish``.
    A pattern gives a tuple."""
    progress: tuple[float | None, str] | None = None
    environment_seconds: float | None = None
    """The seconds before ``started_at`` until its ``requirements`` were ready; 0 if the worker had them."""
    log_tail: str = ""
    upstream_failed: tuple[str, ...] = ()
    """The failed parents, because of which this job never runs."""
    never_started: bool = False
    """Whether the master gave the job up before it ran: it has neither a record nor a log. A real master does so when it
    is saturated, or when a worker has just died. The job may be submitted again under a new id."""
    resubmitted_from: str | None = None
    """The id of the first submission, if the job was submitted again under another id."""

    @property
    def seconds(self) -> float | None:
        """The duration of the user's process, in seconds."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(self.ended_at - self.started_at, 0.0)

    @property
    def will_not_run(self) -> bool:
        """Whether the job has ended or can never run, because a parent failed."""
        return self.state.is_terminal or bool(self.upstream_failed)

    def describe(self) -> str:
        """One sentence: the job's state and the reason."""
        text = f"job {self.job_id!r} {self.outcome}"
        if self.worker:
            text += f" on worker {self.worker}"
        if self.exception:
            text += f": {self.exception}"
        elif self.reason and not self.upstream_failed:
            text += f": {self.reason}"
        return text

    @property
    def outcome(self) -> str:
        """The state or end without id and reason, such as ``failed with exit code 1``."""
        if self.upstream_failed:
            return f"will not run because {', '.join(map(repr, self.upstream_failed))} did not succeed"
        if self.state is JobStatus.COMPLETED:
            return "completed"
        if self.state is JobStatus.CANCELLED:
            return "was cancelled"
        if self.never_started:
            return "was given up by the master without ever being started"
        if self.state is not JobStatus.DEAD:
            return f"is {self.state}"
        if self.signal:
            return f"failed, ended by {self.signal}"
        if self.exit_code:
            return f"failed with exit code {self.exit_code}"
        return "failed"


@dataclass(frozen=True, slots=True)
class JobDetails:
    """The bundled master's details of a job, with or without the runtime. Times are unix seconds."""

    job_id: str
    state: JobStatus
    reason: str | None
    """The reason why the job is not running, or why it ended so."""
    attempts: int
    worker: str | None
    exit_code: int | None
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    ahead: int | None
    """The number of ready jobs of the same tag that start first, while the job is ready."""
    history: tuple[tuple[float, str], ...] = ()
    """The events with their times, oldest first."""
    stopping: bool = False
    """Whether it was cancelled and processes of its run may still live, as within its ``cancel_grace``."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """A piece of a job's output, and the position of the next one."""

    text: str
    position: int
    """The position for the next ``read_logs`` of the same submission, also from another process. Opaque."""


@dataclass(frozen=True, slots=True)
class DagReport:
    """The reports of a DAG's jobs, in the order of the submission."""

    name: str
    jobs: tuple[JobReport, ...]

    @property
    def state(self) -> JobStatus:
        """COMPLETED if all jobs are; DEAD if any failed and none can go on; else RUNNING or PENDING."""
        states = {report.state for report in self.jobs}
        if states <= {JobStatus.COMPLETED}:
            return JobStatus.COMPLETED
        if all(report.will_not_run for report in self.jobs):
            return JobStatus.CANCELLED if JobStatus.DEAD not in states else JobStatus.DEAD
        return JobStatus.PENDING if states <= {JobStatus.PENDING, JobStatus.UNKNOWN} else JobStatus.RUNNING

    @property
    def failures(self) -> tuple[JobReport, ...]:
        """The jobs that failed or will never run, root causes first."""
        bad = [r for r in self.jobs if r.will_not_run and not r.state.is_success]
        return tuple(sorted(bad, key=lambda r: bool(r.upstream_failed)))

    @property
    def first_failure(self) -> JobReport:
        """The likeliest root cause. Only valid if there are ``failures``."""
        return self.failures[0]

    def __getitem__(self, job_id: str) -> JobReport:
        wanted = job_id.removeprefix("DAG-")
        for report in self.jobs:
            if wanted in {
                name.removeprefix("DAG-") for name in (report.job_id, report.resubmitted_from or "")
            }:
                return report
        raise KeyError(f"DAG {self.name!r} has no job {job_id!r}; it has {[r.job_id for r in self.jobs]}")

    def describe(self) -> str:
        """One sentence about the DAG and its root cause."""
        bad = self.failures
        if not bad:
            return f"DAG {self.name!r} is {self.state}"
        more = f" (and {len(bad) - 1} more of {len(self.jobs)} jobs)" if len(bad) > 1 else ""
        return f"DAG {self.name!r} failed: {bad[0].describe()}{more}"
