"""What is known of a job or DAG once somebody asked: typed, frozen, and able to say it in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    """How a job stands or ended.

    Everything but ``job_id`` and ``state`` comes from the runtime that travels with a script job and is
    ``None`` (or 0) for jobs without it. Times are unix seconds on the worker's clock.
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
    """A sentence of the runtime or the client where neither exit code nor exception tells why."""
    has_result: bool = False
    result: Any = None
    """What ``titan_job.result(obj)`` was given; meaningful when ``has_result``."""
    progress: tuple[float | None, str] | None = None
    log_tail: str = ""
    upstream_failed: tuple[str, ...] = ()
    """Parents whose failure means that this job never runs."""
    never_started: bool = False
    """The master gave the job up and nothing of it ever ran: neither its runtime's mark nor a log exists. A saturated
    real master does so, or one whose worker has just died. Submitting it again, under a new id, repeats nothing."""
    resubmitted_from: str | None = None
    """The id first asked for, where the job was submitted again under another one."""

    @property
    def seconds(self) -> float | None:
        """How long the user's process ran."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(self.ended_at - self.started_at, 0.0)

    @property
    def will_not_run(self) -> bool:
        """Over, whatever the master's word is: terminal, or waiting for a parent that failed."""
        return self.state.is_terminal or bool(self.upstream_failed)

    def describe(self) -> str:
        """One sentence: what happened to the job and why."""
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
        """How the job stands or ended, without its id and the reason, such as ``failed with exit code 1``."""
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
        if self.exit_code is not None:
            return f"failed with exit code {self.exit_code}"
        return "failed"


@dataclass(frozen=True, slots=True)
class JobDetails:
    """What the bundled master itself knows of a job, whatever travels with it. Times are unix seconds."""

    job_id: str
    state: JobStatus
    reason: str | None
    """Why it is not running, or why it ended as it did."""
    attempts: int
    worker: str | None
    exit_code: int | None
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    ahead: int | None
    """Ready jobs of its tag that go first, while it is ready itself."""
    history: tuple[tuple[float, str], ...] = ()
    """What happened when, oldest first."""
    stopping: bool = False
    """Whether it was cancelled and something of its run may still be alive, as within its ``cancel_grace``."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """A piece of a job's output, and where the next one begins."""

    text: str
    position: int
    """Opaque; give it to the next ``read_logs`` of the same submission, also from another process."""


@dataclass(frozen=True, slots=True)
class DagReport:
    """All jobs of one submitted DAG, in the order they were given."""

    name: str
    jobs: tuple[JobReport, ...]

    @property
    def state(self) -> JobStatus:
        """COMPLETED when all are; DEAD when any failed and none can go on; else RUNNING or PENDING."""
        states = {report.state for report in self.jobs}
        if states <= {JobStatus.COMPLETED}:
            return JobStatus.COMPLETED
        if all(report.will_not_run for report in self.jobs):
            return JobStatus.CANCELLED if JobStatus.DEAD not in states else JobStatus.DEAD
        return JobStatus.PENDING if states <= {JobStatus.PENDING, JobStatus.UNKNOWN} else JobStatus.RUNNING

    @property
    def failures(self) -> tuple[JobReport, ...]:
        """Jobs that ended without success or never will run, root causes first."""
        bad = [r for r in self.jobs if r.will_not_run and not r.state.is_success]
        return tuple(sorted(bad, key=lambda r: bool(r.upstream_failed)))

    @property
    def first_failure(self) -> JobReport:
        """The likeliest root cause. Only meaningful when there are ``failures``."""
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
        """One sentence for the DAG, and the root cause's."""
        bad = self.failures
        if not bad:
            return f"DAG {self.name!r} is {self.state}"
        more = f" (and {len(bad) - 1} more of {len(self.jobs)} jobs)" if len(bad) > 1 else ""
        return f"DAG {self.name!r} failed: {bad[0].describe()}{more}"
