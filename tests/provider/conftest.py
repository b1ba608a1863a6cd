"""Fixtures of the provider's tests: an Airflow with a database, a connection to the session's master, scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import airflow_run
from tests.support.airflow_run import Outcome, unique
from titan_sdk import JobStatus, TitanClient, TitanJob


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Airflow's own timeout takes the alarm that a test's time limit is told by, so the limit needs a thread here: it
    ends the process, which is a failure, where otherwise a test that hangs would hold the whole run for ever.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # Generous: an Airflow of its own takes ten seconds to start, and many times that beside other work.
            item.add_marker(pytest.mark.timeout(480, method="thread"))


@pytest.fixture(autouse=True)
def _defer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deferrable task would wait by itself for jobs as short as those of tests, and no test would meet a trigger."""
    monkeypatch.setattr("titan_provider.work.waiting.SOON", 0.0)


@pytest.fixture
def run_dag(airflow_home: Path, airflow_connection: str) -> Iterator[Callable[..., Outcome]]:
    """Run a DAG of the given tasks; failures of its tasks are in ``Outcome.errors``."""
    airflow_run.ERRORS.clear()

    def run(body: str, **test_arguments: object) -> Outcome:
        return airflow_run.run_dag(airflow_home, unique("d"), body, **test_arguments)

    yield run
    airflow_run.ERRORS.clear()


@pytest.fixture
def submit(client: TitanClient, tmp_path: Path) -> Callable[..., str]:
    """Submit a script under a new id; returns the id."""

    def send(source: str, **fields: object) -> str:
        path = tmp_path / "job.py"
        path.write_text(source)
        job_id = unique("job")
        client.submit_job(TitanJob(job_id, str(path), **fields))  # type: ignore[arg-type]
        return job_id

    return send


@pytest.fixture
def wait_until(client: TitanClient) -> Callable[..., None]:
    """Block until a job has a status, by the SDK's own wait where it is an end."""

    def wait(job_id: str, status: JobStatus) -> None:
        if status.is_terminal:
            assert client.wait_for_job(job_id, timeout=120, raise_on_failure=False).state is status
            return
        for _ in client.follow_logs(job_id):
            break  # its first line is printed: it runs
        assert client.get_job_status(job_id) is status

    return wait
