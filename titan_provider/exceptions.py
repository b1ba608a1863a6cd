"""The exceptions of Titan tasks. A base class in parentheses says whether Airflow retries.

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

import re
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
_REASON_CHARS = 1_000
_MANY = 10
# The folder that the runtime makes for a job, and the line with which @task.titan calls its function: both are ours.
_OUR_FOLDER = re.compile(r'(?<=File ")[^"\n]*/titan-job-[^"/\n]+/script/')
_OUR_FRAME = re.compile(r' *File "[^"\n]*", line \d+, in <module>\n +_titan_value = .*\n(?: +[\^~]+\n)?')
_FRAME = re.compile(r'File "([^"\n]*)", line (\d+)')


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

    :param report: how the job ended, with the remote traceback
    :param log_tail: the end of the job's log
    :param log_shown: whether the task log has the job's log, so that the message need not repeat it
    """

    def __init__(self, report: JobReport, log_tail: str = "", log_shown: bool = False) -> None:
        super().__init__(failure_message(report, log_tail, log_shown=log_shown))
        self.report = report
        self.log_tail = log_tail
        self.log_shown = log_shown

    def __reduce__(self) -> tuple[type[TitanJobFailed], tuple[JobReport, str, bool]]:
        return type(self), (self.report, self.log_tail, self.log_shown)


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
        super().__init__(f"{len(failures)} of {total} jobs did not succeed: " + "\n".join(lines))
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
        causes = [failure_message(report, log_shown=True) for report in roots[:_MANY]]
        rest = [report.job_id for report in failures if report.upstream_failed]
        if len(roots) > _MANY:
            causes.append(f"and {len(roots) - _MANY} more")
        if rest:
            causes.append(f"Not run because of that: {', '.join(rest)}")
        super().__init__(f"{len(failures)} of {total} jobs did not succeed: " + "\n".join(causes))
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


def failure_message(report: JobReport, log_tail: str = "", *, log_shown: bool = False) -> str:
    """The reason first, in one line; then what the task log does not show already.

    :param report: how the job ended
    :param log_tail: the end of the job's log, cut to a few lines here
    :param log_shown: whether the task log has the job's log
    """
    tail = (log_tail or report.log_tail).rstrip()
    traceback = report.exception.traceback.rstrip() if report.exception else ""
    if traceback:
        # The script's output has the same traceback, whole or its end.
        tail = tail.replace(traceback, "") if traceback in tail else "" if traceback.endswith(tail) else tail
    lines = tail.splitlines()[-_TAIL_LINES:]
    message = _headline(report, "" if traceback or not lines else lines[-1])
    if log_shown:
        return message
    parts = [message]
    if traceback:
        parts.append("Remote traceback:\n" + _without_ours(traceback))
    if text := "\n".join(lines)[-_TAIL_CHARS:].strip("\n"):
        parts.append("Last lines of the job's log:\n" + text)
    return "\n".join(parts)


def _headline(report: JobReport, last_line: str) -> str:
    if report.upstream_failed or not report.state.is_terminal or report.state.is_success:
        return report.describe()
    job = f"job {report.job_id!r}"
    how = report.outcome
    if report.worker:
        how += f" on worker {report.worker}"
    if report.attempts > 1:
        how += f" after {report.attempts} attempts"
    told = str(report.exception or report.reason or "").splitlines() or [""]
    reason = told[0][:_REASON_CHARS]
    if len(told) > 1 or reason != told[0]:
        reason += " ..."
    if report.exception and (place := _place(report.exception.traceback)):
        reason += f" ({place})"
    if reason:
        return f"{reason}; {job} {how}"
    # In front of the id, which may be long: a list of tasks shows the beginning.
    said = f"; its last line: {last_line[:_REASON_CHARS]};" if last_line else ":"
    return f"{how.removeprefix('was ')}{said} {job}"


def _place(traceback: str) -> str:
    """File and line at which the user's code failed."""
    frames = _FRAME.findall(_without_ours(traceback))
    return f"{frames[-1][0].rpartition('/')[2]}, line {frames[-1][1]}" if frames else ""


def _without_ours(traceback: str) -> str:
    return _OUR_FOLDER.sub("", _OUR_FRAME.sub("", traceback))
