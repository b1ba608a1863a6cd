"""What a real master says that is not so, as tasks meet it: a store that is away, delayed jobs, other people's ends."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.provider.waits import wait_as_a_task
from tests.provider.work.test_dag_submission import Task as DagTask
from tests.provider.work.test_submission import Task
from tests.provider.work.tries import Crash, Fragile, State
from tests.sdk.cluster.peer import Peer
from tests.support.airflow_run import Outcome, unique
from tests.support.airflow_version import AIRFLOW_2
from titan_provider.triggers import cancellation
from titan_provider.triggers.job import TitanJobTrigger
from titan_provider.work.cancel import Cancellation
from titan_provider.work.plan import KnownJob
from titan_provider.work.records import AirflowRecords, TitanRecords
from titan_provider.work.watch import WorkWatch
from titan_sdk import ClientConfig, JobStatus, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.flows import submit
from titan_sdk.strict import StrictSettings

# Slow: A store is away for seconds, as it would be.
pytestmark = [pytest.mark.airflow, pytest.mark.slow]

PACE = StrictSettings(first_heartbeat=0.5, heartbeat=0.5, no_worker_pause=0.2, log_flush=0.2)


@pytest.fixture
def strict() -> Iterator[LocalCluster]:
    with LocalCluster({"GENERAL": 1}, strict_titan=PACE) as running:
        yield running


@pytest.fixture
def client(strict: LocalCluster) -> Iterator[TitanClient]:
    with TitanClient(strict.host, strict.port) as connected:
        yield connected


@pytest.fixture
def connection(strict: LocalCluster, airflow_connection: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_STRICT", f"titan://{strict.host}:{strict.port}")
    return "titan_strict"


@pytest.fixture
def noted(tmp_path: Path) -> tuple[str, Path]:
    """A script that leaves a mark each time it runs, and the file of the marks."""
    trace = tmp_path / "trace"
    return f"open({str(trace)!r}, 'a').write('x')", trace


@pytest.fixture
def away(strict: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store is away until three seconds after the first submit has asked for it."""
    asked, ask = threading.Event(), submit.store_answers

    def noticed() -> Any:
        asked.set()
        return (yield from ask())

    def come_back() -> None:
        # On Airflow 2 the task asks for its own record first, and goes no further while the store is away.
        if asked.wait(5 if AIRFLOW_2 else 300):
            threading.Event().wait(3)
        strict.strict.start_store()

    monkeypatch.setattr(submit, "store_answers", noticed)
    strict.strict.stop_store()
    thread = threading.Thread(target=come_back)
    thread.start()
    yield
    asked.set()
    thread.join()


def pass_time(client: TitanClient, tmp_path: Path, milliseconds: int) -> None:
    """By the master's clock of delays: whatever was due before has been started when this returns."""
    path = tmp_path / "later.py"
    path.write_text("pass")
    client.submit_job(TitanJob(unique("later"), str(path), delay=milliseconds)).wait(timeout=90)


JOB = "TitanJobOperator(task_id='t', titan_conn_id={0!r}, script={1!r}, deferrable={2})"
DAG = """
from titan_provider.operators.dag import TitanDagOperator
TitanDagOperator(task_id='t', titan_conn_id={0!r}, jobs=[{{"job_id": "a", "script": {1!r}}}], deferrable={2})
"""


@pytest.mark.parametrize("body", [JOB, DAG], ids=["job", "dag"])
@pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
@pytest.mark.usefixtures("away")
def test_a_store_that_is_away_around_the_submit_costs_a_task_some_time(
    connection: str,
    run_dag: Callable[..., Outcome],
    noted: tuple[str, Path],
    body: str,
    deferrable: bool,
) -> None:
    code, trace = noted
    outcome = run_dag(body.format(connection, code, deferrable))
    assert (outcome.state, outcome.errors, trace.read_text()) == ("success", [], "x")


@pytest.fixture
def crash_in_an_outage(strict: LocalCluster) -> Callable[[Callable[[], object]], None]:
    """Submit by a process that dies after the submit, with the store away between the records and that moment: the
    master takes the jobs, and knows nothing of them.
    """

    def run(start: Callable[[], object]) -> None:
        send = submit._send

        def cut(*arguments: Any) -> Any:
            strict.strict.stop_store()
            yield from send(*arguments)
            strict.strict.start_store()
            raise Crash

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(submit, "_send", cut)
            with pytest.raises(Crash):
                start()

    return run


@pytest.mark.parametrize("kind", ["airflow", "titan"])
def test_a_job_whose_status_was_lost_does_not_run_besides_the_next_one(
    client: TitanClient,
    noted: tuple[str, Path],
    tmp_path: Path,
    crash_in_an_outage: Callable[[Callable[[], object]], None],
    kind: str,
) -> None:
    code, trace = noted
    (tmp_path / "job.py").write_text(code)
    memory = AirflowRecords(State()) if kind == "airflow" else TitanRecords(client, unique("key"))
    task = Task(client, tmp_path / "job.py", Fragile(memory))
    task.delay = 5000
    crash_in_an_outage(task.try_once)
    assert client.get_job_status(task.recorded) is JobStatus.UNKNOWN  # the hazard
    task.delay = 0
    assert client.wait_for_job(task.try_once(), timeout=300).state is JobStatus.COMPLETED
    pass_time(client, tmp_path, 6000)
    assert trace.read_text() == "x"


def test_no_job_of_a_dag_whose_statuses_were_lost_runs_besides_the_next_one(
    client: TitanClient,
    noted: tuple[str, Path],
    tmp_path: Path,
    crash_in_an_outage: Callable[[Callable[[], object]], None],
) -> None:
    code, trace = noted
    task = DagTask(client)
    task.scripts, task.parents = {"a": code}, {}
    crash_in_an_outage(task.start)
    record = task.run()
    assert client.wait_for_job(record.ids["a"], timeout=300).state is JobStatus.COMPLETED
    pass_time(client, tmp_path, 4000)
    assert trace.read_text() == "x"


@pytest.mark.parametrize("how", ["sync", "deferred"])
async def test_a_killed_tasks_delayed_job_does_not_run_when_due(
    client: TitanClient,
    connection: str,
    noted: tuple[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    code, trace = noted
    (tmp_path / "job.py").write_text(code)
    job = TitanJob(unique("delayed"), str(tmp_path / "job.py"), delay=6000)
    await asyncio.to_thread(client.submit_job, job)
    if how == "sync":
        kill = Cancellation()
        kill.connect(ClientConfig(host=client.config.host, port=client.config.port))
        kill.track([job.job_id])
        await asyncio.to_thread(kill.cancel, logging.getLogger("test"))
    else:

        async def failed(_: object) -> str:
            return "failed"

        monkeypatch.setattr(cancellation, "current_task_state", failed)
        await TitanJobTrigger(connection, job.job_id).on_kill()
    await asyncio.to_thread(pass_time, client, tmp_path, 7000)
    assert client.job_report(job.job_id).state is JobStatus.CANCELLED
    assert not trace.exists()


@pytest.mark.parametrize("how", ["sync", "deferred"])
async def test_an_end_that_somebody_else_reports_ends_no_task(
    strict: LocalCluster, client: TitanClient, connection: str, tmp_path: Path, how: str
) -> None:
    gate = tmp_path / "gate"
    (tmp_path / "job.py").write_text(
        f"import os, time, titan_job\nprint('up', flush=True)\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.02)\ntitan_job.result('mine')"
    )
    handle = await asyncio.to_thread(client.submit_job, TitanJob(unique("job"), str(tmp_path / "job.py")))
    next(client.follow_logs(handle.job_id))
    peer = Peer((strict.host, strict.port))
    peer.ask(0x12, f"{handle.full_id}|COMPLETED|x")
    assert client.get_job_status(handle.job_id) is JobStatus.COMPLETED  # the hazard
    if how == "sync":
        jobs = {handle.job_id: KnownJob(handle.job_id, handle.nonce or "", "", ())}
        watch = WorkWatch(jobs, logging.getLogger("test"), poll_interval=0.1, unreachable_timeout=300)
        waiting = asyncio.create_task(wait_as_a_task(watch, client.config, logging.getLogger("test")))
    else:
        trigger = TitanJobTrigger(connection, handle.job_id, nonce=handle.nonce, poll_interval=0.1)
        waiting = asyncio.create_task(_last(trigger))
    done, _ = await asyncio.wait([waiting], timeout=2)
    assert not done
    gate.touch()
    await asyncio.wait_for(waiting, 60)
    assert handle.result() == "mine"


async def _last(trigger: TitanJobTrigger) -> Any:
    return [event async for event in trigger.run()][-1]
