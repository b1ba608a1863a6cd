"""Which jobs a retry or a clear submits: on a real master, with crashes at every point."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.provider.work.tries import Crash, Tries
from tests.support.airflow_run import unique
from titan_provider.work.cancel import Cancellation
from titan_provider.work.jobs import read_jobs
from titan_provider.work.plan import WorkRecord, children_first
from titan_sdk import JobStatus, TitanClient
from titan_sdk.cluster import LocalCluster

pytestmark = pytest.mark.airflow

OK = "import titan_job; titan_job.result(1)"
BAD = "raise SystemExit(3)"
SLOW = "import time; print('up', flush=True); time.sleep(600)"


class Task(Tries):
    """A task of several jobs: a -> b -> c, and d alone."""

    def __init__(self, client: TitanClient) -> None:
        name = unique("dag")
        super().__init__(client, name=name)
        self.name = self.dag_name = name
        self.scripts = {"a": OK, "b": OK, "c": OK, "d": OK}
        self.parents: dict[str, list[str]] = {"b": ["a"], "c": ["b"]}

    def start(self) -> WorkRecord:
        given = [{"job_id": n, "script": s, "parents": self.parents.get(n)} for n, s in self.scripts.items()]
        return self.obtain(read_jobs("task 't'", given, None))

    def run(self) -> WorkRecord:
        record = self.start()
        self.client.find_dag(self.name).wait(timeout=300, raise_on_failure=False)
        return record


@pytest.fixture
def task(client: TitanClient) -> Task:
    return Task(client)


@pytest.fixture(params=["bundled", "like a real one"])
def task_on(request: pytest.FixtureRequest, client: TitanClient) -> Iterator[Task]:
    """On either kind of master: a real one leaves the children of a failed job PENDING for ever."""
    if request.param == "bundled":
        yield Task(client)
        return
    with (
        LocalCluster({"GENERAL": 2}, strict_titan=True) as strict,
        TitanClient(strict.host, strict.port) as other,
    ):
        yield Task(other)


def submitted(record: WorkRecord) -> str:
    return "".join(sorted(record.open_jobs))


@pytest.mark.parametrize("cleared", [False, True], ids=["retry", "clear"])
def test_only_what_did_not_succeed_runs_again(task_on: Task, cleared: bool) -> None:
    task = task_on
    task.scripts["b"] = BAD
    first = task.run()
    task.scripts["b"] = OK
    if cleared:
        task.clear()
    second = task.run()
    assert submitted(second) == "bc"
    assert {n: second.ids[n] == first.ids[n] for n in "abcd"} == {
        "a": True,
        "b": False,
        "c": False,
        "d": True,
    }
    assert all(task.client.get_job_status(job_id).is_success for job_id in second.ids.values())
    assert submitted(task.start()) == "bc", "a crash after it finds the same jobs"


def test_the_clear_of_a_succeeded_task_runs_everything(task: Task) -> None:
    first = task.run()
    task.clear()
    second = task.run()
    assert submitted(second) == "abcd"
    assert not set(first.ids.values()) & set(second.ids.values())


def test_a_changed_job_and_what_depends_on_it_runs_again(task: Task) -> None:
    task.scripts["d"] = BAD
    task.run()
    task.scripts |= {"b": OK + "  # better", "d": OK}
    assert submitted(task.run()) == "bcd"


def test_other_parents_mean_another_job(task: Task) -> None:
    task.scripts["d"] = BAD
    task.run()
    task.parents["c"] = ["a"]
    assert submitted(task.run()) == "cd"


def test_a_job_may_come_and_another_go(task: Task) -> None:
    task.scripts["d"] = BAD
    task.run()
    del task.scripts["d"]
    task.scripts["e"] = OK
    assert submitted(task.run()) == "e"


def test_a_crash_while_they_run_takes_them_up(task: Task) -> None:
    task.scripts["b"] = SLOW
    first = task.start()
    assert task.start().ids == first.ids
    task.client.cancel_job(first.ids["b"])


def test_a_clear_while_they_run_cancels_them(task: Task) -> None:
    task.scripts |= {"b": SLOW, "d": SLOW}
    first = task.start()
    task.client.wait_for_job(first.ids["a"], timeout=300)
    task.clear()
    task.scripts |= {"b": OK, "d": OK}
    second = task.run()
    assert submitted(second) == "bcd"
    old = task.client.get_job_statuses([first.ids[name] for name in "bcd"])
    assert set(old.values()) == {JobStatus.CANCELLED}


def test_a_crash_before_the_submit_is_resolved_by_asking(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(task.client, "submit_dag", die)
        with pytest.raises(Crash):
            task.start()
    record = task.run()
    assert submitted(record) == "abcd"
    assert all(task.client.get_job_status(job_id).is_success for job_id in record.ids.values())


def test_a_crash_right_after_the_submit_takes_them_up(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = task.client.submit_dag
    sent: list[Any] = []

    def submit_and_die(*args: Any, **kwargs: Any) -> None:
        sent.append(real(*args, **kwargs))
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(task.client, "submit_dag", submit_and_die)
        with pytest.raises(Crash):
            task.start()
    assert {job.job_id for job in sent[0].jobs} == set(task.run().ids.values())


def test_what_another_operator_kept_is_ignored(task: Task) -> None:
    task.store.save({"v": 1, "job_id": "x"}, "")
    assert submitted(task.run()) == "abcd"


def test_a_retry_that_takes_jobs_up_announces_itself(task: Task) -> None:
    """A frozen try that comes back and is told to end must not cancel them."""
    task.scripts["b"] = SLOW
    first = task.start()
    assert task.start().ids == first.ids
    frozen = Cancellation()
    frozen.connect(task.client.config, try_number=1)
    frozen.track(children_first(first.jobs).values())
    frozen.cancel(logging.getLogger("test"))
    assert not task.client.get_job_status(first.ids["b"]).is_terminal
    frozen.connect(task.client.config, try_number=2)
    frozen.cancel(logging.getLogger("test"))
    assert task.client.get_job_status(first.ids["b"]) is JobStatus.CANCELLED
