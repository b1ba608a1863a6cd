"""The crash matrix of design section 5, "dispatched once", against a real master, for both kinds of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task as decorators

from tests.provider.work.tries import Crash, Fragile, State, Tries
from tests.support.airflow_run import unique
from titan_provider.operators.titan import TitanJobOperator
from titan_provider.work.jobs import NamedJob, read_jobs
from titan_provider.work.plan import ONLY, Record
from titan_provider.work.records import AirflowRecords, RecordStore, TitanRecords
from titan_provider.work.source import Script
from titan_sdk import JobStatus, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster

# Slow: Tasks crash and are tried again in a real Airflow.
pytestmark = [pytest.mark.airflow, pytest.mark.slow]


class Task(Tries):
    """A task of one job."""

    def __init__(self, client: TitanClient, script: Path, store: Fragile) -> None:
        super().__init__(client, store)
        self.script = script
        self.memory = store
        self.requirement = "GENERAL"
        self.params: str | None = None
        self.delay = 0

    def try_once(self, *, crash_in_build: bool = False, crash_in_admit: bool = False) -> str:
        def admit(_: str) -> None:
            if crash_in_admit:
                raise Crash

        class Job(NamedJob):
            def build(self, ids: Mapping[str, str]) -> TitanJob:
                if crash_in_build:
                    raise Crash
                return super().build(ids)

        fields = {"requirement": self.requirement, "params": self.params, "delay": self.delay}
        return self.obtain([Job(ONLY, (), Script(str(self.script)), fields, "")], admit).ids[ONLY]

    @property
    def recorded(self) -> str:
        record = Record.from_json(self.memory.load())
        assert record is not None
        return record.job_id


@pytest.fixture(params=["airflow", "titan"])
def memory(request: pytest.FixtureRequest, client: TitanClient) -> Fragile:
    kept: RecordStore = AirflowRecords(State())
    if request.param == "titan":
        kept = TitanRecords(client, f"titan:airflow:task:{unique('key')}")
    return Fragile(kept)


@pytest.fixture
def task(client: TitanClient, tmp_path: Path, memory: Fragile) -> Task:
    script = tmp_path / "job.py"
    script.write_text("print(1)")
    return Task(client, script, memory)


def test_a_crash_before_the_id_is_kept_sends_nothing(task: Task, client: TitanClient) -> None:
    task.memory.crash_at = 1
    with pytest.raises(Crash):
        task.try_once()
    assert task.memory.load() is None
    assert client.wait_for_job(task.try_once(), timeout=120).state.is_success


def test_a_crash_between_keeping_the_id_and_the_submit_is_resolved_by_asking(
    task: Task, client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(client, "submit_dag", die)
        with pytest.raises(Crash):
            task.try_once()
    lost = task.recorded
    assert task.try_once() != lost
    assert client.get_job_status(lost) is JobStatus.UNKNOWN


def test_a_crash_while_the_job_runs_takes_it_up(
    task: Task, client: TitanClient, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    gate = tmp_path / "gate"
    task.script.write_text(
        "import os, time, titan_job\nprint('up')\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.02)\ntitan_job.result(7)"
    )
    first = task.try_once()
    wait_until(first, JobStatus.RUNNING)
    assert task.try_once() == first
    gate.touch()
    assert client.wait_for_job(task.try_once(), timeout=120).result == 7


def test_a_crash_after_the_end_takes_the_result(task: Task, client: TitanClient) -> None:
    task.script.write_text("import titan_job; titan_job.result('once')")
    first = task.try_once()
    client.wait_for_job(first, timeout=120)
    assert task.try_once() == first
    assert client.job_report(first).result == "once"


def test_a_retry_after_a_failure_gets_a_new_id(task: Task, client: TitanClient) -> None:
    task.script.write_text("raise SystemExit(3)")
    first = task.try_once()
    client.wait_for_job(first, timeout=120, raise_on_failure=False)
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
    client.wait_for_job(first, timeout=120)
    task.clear()
    assert task.try_once() != first


@pytest.mark.parametrize("clear", [Task.clear, Task.clear_while_running])
def test_a_clear_ends_the_old_job_before_the_new_one(
    task: Task, client: TitanClient, clear: Callable[[Task], None]
) -> None:
    task.requirement = "QUANTUM"
    first = task.try_once()
    clear(task)
    second = task.try_once()
    assert client.get_job_status(first) is JobStatus.CANCELLED
    assert client.get_job_status(second) is JobStatus.PENDING
    client.cancel_job(second)


def test_a_dag_run_made_again_under_its_old_id_gets_no_old_result(task: Task, client: TitanClient) -> None:
    first = task.try_once()
    client.wait_for_job(first, timeout=120)
    task.dag_run.start_date = datetime(2026, 1, 2, tzinfo=UTC)
    assert task.try_once() != first


def test_a_job_that_cannot_be_built_leaves_no_record(task: Task) -> None:
    with pytest.raises(Crash):
        task.try_once(crash_in_build=True)
    assert task.memory.load() is None


def test_a_job_that_is_held_back_leaves_no_record(task: Task) -> None:
    with pytest.raises(Crash):
        task.try_once(crash_in_admit=True)
    assert task.memory.load() is None


def test_a_lost_reply_is_settled_by_the_next_try(
    task: Task, client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The master took the job, the task never heard of it."""
    task.requirement = "QUANTUM"
    send = client.submit_dag

    def lose(*args: Any, **fields: Any) -> None:
        send(*args, **fields)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(client, "submit_dag", lose)
        with pytest.raises(Crash):
            task.try_once()
    first = task.recorded
    assert task.try_once() == first
    client.cancel_job(first)


STUBBORN = """
import os, signal, sys, time, titan_job

def say(word):
    with open(titan_job.params, "a") as file:
        file.write(word + "\\n")

def stop(*_):
    time.sleep(1)
    say("end")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
say("begin")
while True:
    time.sleep(0.1)
"""


@pytest.fixture(params=["bundled", "like a real one"])
def either(request: pytest.FixtureRequest, client: TitanClient) -> Iterator[TitanClient]:
    if request.param == "bundled":
        yield client
        return
    with LocalCluster(strict_titan=True) as strict, TitanClient(strict.host, strict.port) as other:
        yield other


@pytest.mark.parametrize("by", ["the clear", "a kill before the retry"])
def test_the_next_run_begins_when_nothing_is_left_of_the_old_one(
    either: TitanClient, tmp_path: Path, by: str
) -> None:
    order, script = tmp_path / "order", tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    task = Task(either, script, Fragile(AirflowRecords(State())))
    task.params = str(order)
    first = task.try_once()
    _until(lambda: order.exists() and order.read_text() == "begin\n")
    if by == "the clear":
        task.clear()
    else:
        either.cancel_job(first)
    second = task.try_once()
    _until(lambda: order.read_text().count("begin") == 2)
    assert order.read_text().split() == ["begin", "end", "begin"]
    either.cancel_job(second)
    assert either.wait_stopped(second, 60)


@pytest.mark.parametrize(
    ("written", "seconds"), [(90, 90.0), ("1m30s", 90.0), (timedelta(seconds=90), 90.0), (0, 0.0)]
)
def test_the_grace_may_be_given_wherever_a_job_is(tmp_path: Path, written: Any, seconds: float) -> None:
    path = tmp_path / "a.py"
    path.write_text("print(1)")

    @decorators.titan(cancel_grace=written)
    def work() -> None: ...

    with DAG("grace", schedule=None):
        decorated = work().operator
    operator = TitanJobOperator(task_id="t", filename=str(path), cancel_grace=written)
    (job,) = read_jobs("t", [{"job_id": "a", "filename": str(path), "cancel_grace": written}], None)
    jobs = [*operator.read_jobs({}), *decorated.read_jobs({}), job]
    built = [each.build({each.name: "j"}) for each in jobs]
    assert [made.cancel_grace for made in built] == [seconds] * 3
    with pytest.raises(ValueError, match="cancel_grace"):
        TitanJobOperator(task_id="t", script="", cancel_grace="soon")


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("clears", "after_clear"), [(True, "nothing"), (False, "kept")])
def test_a_retry_goes_on_from_a_checkpoint_and_a_clear_only_if_it_is_told_to(
    task: Task, client: TitanClient, clears: bool, after_clear: str
) -> None:
    task.script.write_text(
        "import titan_job\npath = titan_job.restore()\ntitan_job.result(open(path).read() if path else 'nothing')\n"
        "open('c', 'w').write('kept')\ntitan_job.checkpoint('c')\n"
    )
    # It succeeds, which need not remove the checkpoint: a failed task would be retried.
    fields = {"checkpoint_key": unique("task"), "keep_checkpoint": True, "requirement": "GENERAL"}
    job = NamedJob(ONLY, (), Script(str(task.script)), fields, "", clears_checkpoint=clears)

    def run() -> Any:
        return client.wait_for_job(task.obtain([job], None).ids[ONLY], timeout=120).result

    assert run() == "nothing"
    task.script.write_text(task.script.read_text().replace("titan_job.checkpoint('c')", "pass"))
    task.clear()
    assert run() == after_clear
