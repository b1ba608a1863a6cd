"""A kill cancels the job, unless a later try of the task waits for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.airflow_run import unique
from titan_provider.work.cancel import Cancellation, announce_try
from titan_sdk import JobStatus, TitanClient, TitanJob

pytestmark = pytest.mark.airflow


@pytest.fixture
def job_id(client: TitanClient, tmp_path: Path) -> Iterator[str]:
    script = tmp_path / "wait.py"
    script.write_text("import time; time.sleep(60)")
    handle = client.submit_job(TitanJob(unique("killed"), script))
    yield handle.job_id
    client.cancel_job(handle.job_id)


def kill(client: TitanClient, job_id: str, try_number: int) -> JobStatus:
    cancellation = Cancellation()
    cancellation.connect(client.config, try_number)
    cancellation.track([job_id])
    cancellation.cancel(logging.getLogger(__name__))
    return client.get_job_status(job_id)


def test_a_try_that_was_given_up_does_not_cancel_the_job_of_the_next(
    client: TitanClient, job_id: str
) -> None:
    announce_try(client, job_id, 2)
    assert not kill(client, job_id, 1).is_terminal
    assert kill(client, job_id, 2) is JobStatus.CANCELLED


def test_without_a_later_try_a_kill_cancels(client: TitanClient, job_id: str) -> None:
    assert kill(client, job_id, 1) is JobStatus.CANCELLED
