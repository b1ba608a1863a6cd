"""How Titan failures reach Airflow: what fails a task, what may be retried, and what the message says.

::

    AirflowException
    ├── TitanConnectionError          (ValueError) the Airflow connection cannot be used as it is
    ├── TitanMasterUnreachable        status requests failed more often than the budget allows
    ├── TitanJobTimedOut              the task's time was over and the remote job was cancelled
    ├── TitanPlacementTimedOut        the job did not start in time and was cancelled
    ├── TitanJobFailed                the remote job ended without success; ``.report`` says how
    │   └── TitanJobFailedForGood     (AirflowFailException) the same, and a retry would be pointless
    ├── TitanWorkFailed               (AirflowFailException) jobs that a sensor waited for did not succeed
    ├── TitanDagFailed                jobs of a task with several ones did not succeed; ``.failures`` says which
    ├── TitanServiceFailed            a service did not come up; nothing of it is left running
    ├── TitanFunctionRefused          (AirflowFailException, TypeError) @task.titan cannot send this function or value
    └── TitanXComError                a value in TitanStore is missing, damaged or cannot be stored
"""

from __future__ import annotations

from collections.abc import Sequence

# Directly, because the XCom backend imports this module; see xcom/base.py.
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from titan_sdk import JobReport

__all__ = [
    "TitanConnectionError",
    "TitanDagFailed",
    "TitanFunctionRefused",
    "TitanJobFailed",
    "TitanJobFailedForGood",
    "TitanJobTimedOut",
    "TitanMasterUnreachable",
    "TitanPlacementTimedOut",
    "TitanServiceFailed",
    "TitanWorkFailed",
    "TitanXComError",
    "failure_message",
]

# Airflow stores and shows the message in several places; the full log is in the task log anyway.
_TAIL_LINES = 20
_TAIL_CHARS = 4_000
_MANY = 10


class TitanConnectionError(AirflowException, ValueError):
    """The Airflow connection cannot be used as it is; the sentence names the field and the fix."""


class TitanMasterUnreachable(AirflowException):
    """The job's state could not be asked for longer than the budget allows; the job may still be running."""


class TitanJobTimedOut(AirflowException):
    """The task's ``execution_timeout`` ended first; the remote job was cancelled."""


class TitanPlacementTimedOut(AirflowException):
    """The job did not start within ``placement_timeout`` and was cancelled."""


class TitanJobFailed(AirflowException):
    """The remote job ended without success.

    :param report: how the job ended
    :param log_tail: the end of the job's log
    """

    def __init__(self, report: JobReport, log_tail: str = "") -> None:
        super().__init__(failure_message(report, log_tail))
        self.report = report
        self.log_tail = log_tail

    def __reduce__(self) -> tuple[type[TitanJobFailed], tuple[JobReport, str]]:
        return type(self), (self.report, self.log_tail)


class TitanJobFailedForGood(TitanJobFailed, AirflowFailException):
    """As :class:`TitanJobFailed`, but Airflow does not retry the task."""


class TitanWorkFailed(AirflowFailException):
    """Jobs that a sensor waited for did not succeed. Looking again would find the same, so it is not retried.

    :param failures: the jobs, root causes first
    :param total: how many jobs were waited for
    """

    def __init__(self, failures: Sequence[JobReport], total: int) -> None:
        lines = [failure_message(report) for report in failures[:_MANY]]
        if len(failures) > _MANY:
            lines.append(f"and {len(failures) - _MANY} more")
        super().__init__(f"{len(failures)} of {total} jobs did not succeed:\n" + "\n".join(lines))
        self.failures = tuple(failures)
        self.total = total

    def __reduce__(self) -> tuple[type[TitanWorkFailed], tuple[tuple[JobReport, ...], int]]:
        return type(self), (self.failures, self.total)


class TitanDagFailed(AirflowException):
    """Jobs of a task with several ones did not succeed.

    :param failures: the jobs by the names that their user gave them, root causes first
    :param total: how many jobs there are
    """

    def __init__(self, failures: Sequence[JobReport], total: int) -> None:
        roots = [report for report in failures if not report.upstream_failed]
        causes = [failure_message(report) for report in roots[:_MANY]]
        rest = [report.job_id for report in failures if report.upstream_failed]
        if len(roots) > _MANY:
            causes.append(f"and {len(roots) - _MANY} more")
        if rest:
            causes.append(f"Not run because of that: {', '.join(rest)}")
        super().__init__(f"{len(failures)} of {total} jobs did not succeed:\n" + "\n".join(causes))
        self.failures = tuple(failures)
        self.total = total

    def __reduce__(self) -> tuple[type[TitanDagFailed], tuple[tuple[JobReport, ...], int]]:
        return type(self), (self.failures, self.total)


class TitanServiceFailed(AirflowException):
    """A service did not come up; nothing of it is left running."""


class TitanFunctionRefused(AirflowFailException, TypeError):
    """A function, an argument or a value that cannot travel to a worker; the sentence names it and what to do."""


class TitanXComError(AirflowException):
    """A value in TitanStore is missing, damaged or cannot be stored; the sentence names its key."""


def failure_message(report: JobReport, log_tail: str = "") -> str:
    """All that helps somebody who sees nothing but the exception.

    :param report: how the job ended
    :param log_tail: the end of the job's log, cut to a few lines here
    """
    parts = [report.describe()]
    if report.attempts > 1:
        parts[0] += f" after {report.attempts} attempts"
    if report.exception and report.exception.traceback:
        parts.append("Remote traceback:\n" + report.exception.traceback.rstrip())
    tail = "\n".join((log_tail or report.log_tail).rstrip().splitlines()[-_TAIL_LINES:])[-_TAIL_CHARS:]
    if tail:
        parts.append("Last lines of the job's log:\n" + tail)
    return "\n".join(parts)
