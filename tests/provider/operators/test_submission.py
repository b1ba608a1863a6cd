"""The crash matrix of design section 5, "dispatched once", against a real master."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from titan_provider.dispatch import Record
from titan_provider.job_ids import make_job_id
from titan_provider.operators.submission import STATE_KEY, obtain_job
from titan_sdk import JobStatus, TitanClient, TitanJob

pytestmark = pytest.mark.airflow


class Crash(BaseException):
    """The process of a try is gone."""


class State(dict[str, Any]):
    """Airflow's task state store: it outlives tries and clears. Crashes the try at a chosen write."""

    crash_at: int | None = None
    writes = 0

    def set(self, key: str, value: Any) -> None:
        self.writes += 1
        if self.writes == self.crash_at:
            raise Crash
        self[key] = value


@dataclass
class Task:
    """One task instance over its tries."""

    client: TitanClient
    script: Path
    state: State = field(default_factory=State)
    requirement: str = "GENERAL"
    max_tries: int = 2
    clear_number: int = 0
    tries: int = 0

    def try_once(self, *, crash_in_build: bool = False) -> str:
        self.tries += 1
        record = Record(make_job_id("d", "t", "r", -1, self.tries), self.max_tries, self.clear_number)

        def build(job_id: str) -> TitanJob:
            if crash_in_build:
                raise Crash
            return TitanJob(job_id, str(self.script), requirement=self.requirement)

        return obtain_job(self.client, self.state, record, build, logging.getLogger("test"), lambda _: None)

    def clear(self) -> None:
        """What Airflow does when a person clears a task that is not running."""
        self.max_tries = self.tries + 2
        self.clear_number += 1

    @property
    def recorded(self) -> str:
        return str(self.state[STATE_KEY]["job_id"])


@pytest.fixture
def task(client: TitanClient, tmp_path: Path) -> Task:
    script = tmp_path / "job.py"
    script.write_text("print(1)")
    return Task(client, script)


def test_a_crash_before_the_id_is_kept_sends_nothing(task: Task, client: TitanClient) -> None:
    task.state.crash_at = 1
    with pytest.raises(Crash):
        task.try_once()
    assert STATE_KEY not in task.state
    assert client.wait_for_job(task.try_once(), timeout=30).state.is_success


def test_a_crash_between_keeping_the_id_and_the_submit_is_resolved_by_asking(
    task: Task, client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(client, "submit_job", die)
        with pytest.raises(Crash):
            task.try_once()
    lost = task.recorded
    assert task.try_once() != lost
    assert client.get_job_status(lost) is JobStatus.UNKNOWN


def test_a_crash_right_after_the_submit_takes_the_same_job_up(task: Task, client: TitanClient) -> None:
    task.requirement = "QUANTUM"  # no worker has it, so the job waits
    task.state.crash_at = 2
    with pytest.raises(Crash):
        task.try_once()
    first = task.recorded
    assert task.try_once() == first
    client.cancel_job(first)


def test_a_crash_after_the_end_takes_the_result(task: Task, client: TitanClient) -> None:
    first = task.try_once()
    client.wait_for_job(first, timeout=30)
    assert task.try_once() == first


def test_a_retry_after_a_failure_gets_a_new_id(task: Task, client: TitanClient) -> None:
    task.script.write_text("raise SystemExit(3)")
    first = task.try_once()
    client.wait_for_job(first, timeout=30, raise_on_failure=False)
    assert task.try_once() != first


def test_a_cancelled_id_is_never_used_again(task: Task, client: TitanClient) -> None:
    task.requirement = "QUANTUM"
    first = task.try_once()
    client.cancel_job(first)
    second = task.try_once()
    assert second != first
    client.cancel_job(second)


def test_a_clear_of_a_succeeded_task_runs_it_again(task: Task, client: TitanClient) -> None:
    first = task.try_once()
    client.wait_for_job(first, timeout=30)
    task.clear()
    assert task.try_once() != first


def test_a_clear_ends_the_old_job_before_the_new_one(task: Task, client: TitanClient) -> None:
    task.requirement = "QUANTUM"
    first = task.try_once()
    task.clear()
    second = task.try_once()
    assert client.get_job_status(first) is JobStatus.CANCELLED
    assert client.get_job_status(second) is JobStatus.PENDING
    client.cancel_job(second)


def test_a_job_that_cannot_be_built_leaves_no_record(task: Task) -> None:
    with pytest.raises(Crash):
        task.try_once(crash_in_build=True)
    assert STATE_KEY not in task.state


def test_without_a_state_store_every_try_submits(
    client: TitanClient, submit: Callable[..., str], tmp_path: Path
) -> None:
    script = tmp_path / "job.py"
    script.write_text("print(1)")

    def once(n: int) -> str:
        record = Record(make_job_id("d", "t", "r", -1, n), 0, 0)
        return obtain_job(
            client,
            None,
            record,
            lambda i: TitanJob(i, str(script)),
            logging.getLogger("test"),
            lambda _: None,
        )

    assert once(1) != once(2)
