"""What a report says of a job or DAG, sentence by sentence."""

from __future__ import annotations

import pickle

import pytest

from titan_sdk.errors import DagFailed, JobFailed
from titan_sdk.model.report import DagReport, JobReport, RemoteException
from titan_sdk.model.status import JobStatus

BOOM = RemoteException("ValueError", "no data", "Traceback ...")


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (JobReport("a", JobStatus.COMPLETED), "job 'a' completed"),
        (JobReport("a", JobStatus.COMPLETED, worker="GPU-1"), "job 'a' completed on worker GPU-1"),
        (JobReport("a", JobStatus.CANCELLED), "job 'a' was cancelled"),
        (JobReport("a", JobStatus.RUNNING), "job 'a' is RUNNING"),
        (JobReport("a", JobStatus.UNKNOWN, reason="store down"), "job 'a' is UNKNOWN: store down"),
        (JobReport("a", JobStatus.DEAD), "job 'a' failed"),
        (JobReport("a", JobStatus.DEAD, exit_code=3), "job 'a' failed with exit code 3"),
        (JobReport("a", JobStatus.DEAD, exit_code=137, signal="SIGKILL"), "job 'a' failed, ended by SIGKILL"),
        (
            JobReport("a", JobStatus.DEAD, exit_code=1, worker="GPU-1", exception=BOOM, reason="unused"),
            "job 'a' failed with exit code 1 on worker GPU-1: ValueError: no data",
        ),
        (
            JobReport("a", JobStatus.PENDING, reason="it left no record", upstream_failed=("b", "c")),
            "job 'a' will not run because 'b', 'c' did not succeed",
        ),
    ],
)
def test_a_job_in_a_sentence(report: JobReport, sentence: str) -> None:
    assert report.describe() == sentence


def test_an_exception_without_a_message_is_its_type() -> None:
    assert str(RemoteException("KeyboardInterrupt", "", "")) == "KeyboardInterrupt"


def test_seconds_need_both_times_and_are_never_negative() -> None:
    assert JobReport("a", JobStatus.RUNNING, started_at=5.0).seconds is None
    assert JobReport("a", JobStatus.RUNNING, ended_at=5.0).seconds is None
    assert JobReport("a", JobStatus.COMPLETED, started_at=5.0, ended_at=7.5).seconds == 2.5
    assert JobReport("a", JobStatus.COMPLETED, started_at=5.0, ended_at=4.0).seconds == 0.0


def dag(*states: JobStatus | tuple[JobStatus, str]) -> DagReport:
    jobs = []
    for number, state in enumerate(states):
        if isinstance(state, tuple):
            jobs.append(JobReport(f"j{number}", state[0], upstream_failed=(state[1],)))
        else:
            jobs.append(JobReport(f"j{number}", state))
    return DagReport("etl", tuple(jobs))


P, R, C, D, X, U = (
    JobStatus.PENDING,
    JobStatus.RUNNING,
    JobStatus.COMPLETED,
    JobStatus.DEAD,
    JobStatus.CANCELLED,
    JobStatus.UNKNOWN,
)


@pytest.mark.parametrize(
    ("report", "state"),
    [
        (dag(C, C), C),
        (dag(P, U), P),
        (dag(C, P), R),
        (dag(D, R), R),
        (dag(D, P), R),
        (dag(D, (P, "j0")), D),
        (dag(C, X), X),
        (dag(X, (P, "j0")), X),
        (dag(D, X), D),
    ],
)
def test_the_state_of_a_dag(report: DagReport, state: JobStatus) -> None:
    assert report.state is state


def test_failures_name_the_root_cause_first() -> None:
    report = dag((P, "j1"), D, C)
    assert [failure.job_id for failure in report.failures] == ["j1", "j0"]
    assert report.first_failure.job_id == "j1"
    assert report.describe() == "DAG 'etl' failed: job 'j1' failed (and 1 more of 3 jobs)"


def test_a_dag_with_one_failure_and_one_without() -> None:
    assert dag(C, D).describe() == "DAG 'etl' failed: job 'j1' failed"
    assert dag(C, C).describe() == "DAG 'etl' is COMPLETED"


def test_jobs_are_found_by_id_with_or_without_the_prefix() -> None:
    report = dag(C, D)
    assert report["DAG-j1"].state is D
    assert report["j0"].state is C
    with pytest.raises(KeyError, match="DAG 'etl' has no job 'x'; it has"):
        report["x"]


def test_failures_as_exceptions_keep_their_reports_through_pickle() -> None:
    job_error = JobFailed(JobReport("a", D, exit_code=3))
    assert str(job_error) == "job 'a' failed with exit code 3"
    assert pickle.loads(pickle.dumps(job_error)).report == job_error.report
    dag_error = DagFailed(dag(C, D))
    assert str(dag_error) == "DAG 'etl' failed: job 'j1' failed"
    copy = pickle.loads(pickle.dumps(dag_error))
    assert (copy.dag_report, copy.report, str(copy)) == (
        dag_error.dag_report,
        dag_error.report,
        str(dag_error),
    )
