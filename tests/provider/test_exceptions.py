from __future__ import annotations

import pickle
from dataclasses import replace

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from titan_provider.exceptions import TitanJobFailed, TitanJobFailedForGood, TitanWorkFailed, failure_message
from titan_sdk import JobReport, JobStatus, RemoteException

TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 3\nValueError: no rows\n'
FAILED = JobReport(
    "train",
    JobStatus.DEAD,
    exit_code=1,
    attempts=2,
    worker="GPU-1",
    exception=RemoteException("ValueError", "no rows", TRACEBACK),
)


def test_the_message_holds_all_that_helps() -> None:
    text = failure_message(FAILED, "epoch 1\nepoch 2\n")
    assert "exit code 1" in text
    assert "on worker GPU-1" in text
    assert "after 2 attempts" in text
    assert 'File "train.py", line 3' in text
    assert text.endswith("Last lines of the job's log:\nepoch 1\nepoch 2")


OURS = """Traceback (most recent call last):
  File "/tmp/titan-job-413b4e6c-8382e226/script/train@etl.py", line 24, in <module>
    _titan_value = train(*_titan_job.params["args"], **_titan_job.params["kwargs"])
                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/tmp/titan-job-413b4e6c-8382e226/script/train@etl.py", line 18, in train
    raise ValueError("no rows")
ValueError: no rows
"""
TRIMMED = """Traceback (most recent call last):
  File "train@etl.py", line 18, in train
    raise ValueError("no rows")
ValueError: no rows"""


def test_the_reason_comes_first_and_the_traceback_once_without_our_part() -> None:
    failed = replace(FAILED, exception=RemoteException("ValueError", "no rows", OURS))
    head = "ValueError: no rows (train@etl.py, line 18); job 'train' failed with exit code 1 on worker GPU-1 after 2 attempts"
    assert failure_message(failed, "epoch 1\n" + OURS) == (
        f"{head}\nRemote traceback:\n{TRIMMED}\nLast lines of the job's log:\nepoch 1"
    )
    assert (
        failure_message(failed, "\n".join(OURS.splitlines()[-3:])) == f"{head}\nRemote traceback:\n{TRIMMED}"
    )
    assert failure_message(failed, "epoch 1\n" + OURS, log_shown=True) == head


def test_a_reason_of_many_lines_is_one_line_in_front() -> None:
    failed = replace(FAILED, exception=RemoteException("ValueError", "a\nb", ""))
    assert (
        failure_message(failed)
        == "ValueError: a ...; job 'train' failed with exit code 1 on worker GPU-1 after 2 attempts"
    )


def test_a_signal_is_named() -> None:
    assert "SIGKILL" in failure_message(JobReport("train", JobStatus.DEAD, exit_code=137, signal="SIGKILL"))


def test_an_endless_log_is_cut_to_its_end() -> None:
    text = failure_message(FAILED, "\n".join(f"line {n}" for n in range(10_000)))
    assert "line 9999" in text
    assert "line 9979" not in text
    assert len(failure_message(FAILED, "x" * 1_000_000)) < 6_000


def test_failures_survive_pickling_with_their_report() -> None:
    for error in (
        TitanJobFailed(FAILED, "tail"),
        TitanJobFailedForGood(FAILED),
        TitanWorkFailed([FAILED], 3),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert isinstance(again, AirflowException)


def test_airflow_does_not_retry_what_is_failed_for_good() -> None:
    assert issubclass(TitanJobFailedForGood, AirflowFailException)
    assert not issubclass(TitanJobFailed, AirflowFailException)


def test_a_sensors_failure_names_every_job_and_its_reason() -> None:
    jobs = [FAILED, JobReport("evaluate", JobStatus.PENDING, upstream_failed=("train",))]
    text = str(TitanWorkFailed(jobs, 5))
    assert text.startswith("2 of 5 jobs did not succeed")
    assert "ValueError: no rows" in text
    assert "'evaluate' will not run because 'train' did not succeed" in text
