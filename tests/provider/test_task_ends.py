"""A task ends when its job ends, whatever its ``poll_interval`` is; and what that costs a master without WAIT."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from tests.support.airflow_run import unique
from tests.support.airflow_version import AIRFLOW_2
from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanPlacementTimedOut
from titan_provider.operators.dag import TitanDagOperator
from titan_provider.operators.service import TitanServiceOperator, TitanServiceStopOperator
from titan_provider.operators.titan import TitanJobOperator
from titan_provider.triggers import status_poller as module
from titan_provider.triggers.jobs import TitanJobsTrigger
from titan_provider.triggers.status_poller import Schedule
from titan_provider.work import waiting
from titan_provider.work.waiting import Pace
from titan_sdk import JobStatus, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_connection")]

HOUR = 3600.0
LONG = 60.0
"""Seconds that a slow machine does not need."""
SCRIPT = "import time, titan_job; time.sleep(0.5); titan_job.result(7)"


@pytest.fixture
def context() -> Any:
    ti = SimpleNamespace(dag_id=unique("d"), task_id="t", run_id="r", map_index=-1, try_number=1, max_tries=0)
    ti.xcom_push = lambda **_: None
    return {"ti": ti, "dag_run": SimpleNamespace(clear_number=0, start_date=None)}


def in_time(work: Callable[[], Any]) -> Any:
    """What it returns or raises; a failure if it takes long."""
    found: list[Any] = []

    def run() -> None:
        if AIRFLOW_2:  # it keeps a list of the thread's callers, which it makes for the main thread only
            from airflow.models.baseoperator import ExecutorSafeguard

            ExecutorSafeguard._sentinel.callers = {}
        try:
            found.append(work())
        except BaseException as exc:  # noqa: BLE001 - it is raised below
            found.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LONG)
    assert found, f"not over after {LONG:g} s"
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look comes in time, so the master has to tell."""
    monkeypatch.setattr("titan_provider.work.waiting.FIRST_LOOK", HOUR)


@pytest.mark.usefixtures("told")
def test_a_job_is_over_for_its_task_at_once(context: Any) -> None:
    task = TitanJobOperator(task_id="t", script=SCRIPT, poll_interval=HOUR, deferrable=False)
    assert in_time(lambda: task.execute(context)) == 7


@pytest.mark.usefixtures("told")
def test_jobs_that_depend_on_each_other_are_over_for_their_task_at_once(context: Any) -> None:
    jobs = [
        {"job_id": "a", "script": SCRIPT},
        {"job_id": "b", "script": SCRIPT, "parents": ["a"]},
    ]
    task = TitanDagOperator(task_id="t", jobs=jobs, poll_interval=HOUR, deferrable=False)
    assert in_time(lambda: task.execute(context)) == {"a": 7, "b": 7}


@pytest.mark.usefixtures("told")
def test_a_service_is_up_for_its_task_at_once(context: Any, unused_tcp_port: int) -> None:
    script = (
        "from http.server import HTTPServer, SimpleHTTPRequestHandler as Handler\n"
        f"HTTPServer(('127.0.0.1', {unused_tcp_port}), Handler).serve_forever()"
    )
    task = TitanServiceOperator(task_id="t", script=script, port=unused_tcp_port, poll_interval=HOUR)
    found = in_time(lambda: task.execute(context))
    TitanServiceStopOperator(task_id="stop", service=found).execute(context)


@pytest.mark.usefixtures("told")
def test_a_job_that_is_not_placed_is_given_up_in_time(context: Any) -> None:
    task = TitanJobOperator(
        task_id="t", script=SCRIPT, requirement="QUANTUM", poll_interval=HOUR, placement_timeout=0.3
    )
    with pytest.raises(TitanPlacementTimedOut):
        in_time(lambda: task.execute(context))


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("by", ["id", "name"])
async def test_jobs_are_over_for_a_deferred_sensor_at_once(
    by: str, client: TitanClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, wait_for_news = asyncio.Event(), TitanJobsTrigger._news

    async def wait(*given: Any) -> None:
        looked.set()
        await wait_for_news(*given)

    monkeypatch.setattr(TitanJobsTrigger, "_news", wait)
    (tmp_path / "job.py").write_text(
        "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.05)"
    )
    name, gate = unique("dag"), tmp_path / "gate"
    jobs = [TitanJob(f"{name}-{n}", str(tmp_path / "job.py"), args=[str(gate)]) for n in range(2)]
    client.submit_dag(name, jobs)
    ids = [job.job_id for job in jobs]
    given: dict[str, Any] = {"dag_name": name} if by == "name" else {"job_ids": ids}
    trigger = TitanJobsTrigger("titan_default", **given, poll_interval=HOUR)
    waiting = asyncio.ensure_future(anext(aiter(trigger.run())))
    await asyncio.wait_for(looked.wait(), LONG)
    gate.touch()
    event = JobEvent.from_dict((await asyncio.wait_for(waiting, LONG)).payload)
    assert event == JobEvent(Outcome.ENDED, dict.fromkeys(ids, JobStatus.COMPLETED))


@pytest.fixture(params=["bundled", "strict"])
def master(
    request: pytest.FixtureRequest, client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TitanClient]:
    if request.param == "bundled":
        yield client
        return
    with LocalCluster({"GENERAL": 1}, strict_titan=True) as cluster:
        monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", f"titan://{cluster.host}:{cluster.port}")
        with TitanClient(cluster.host, cluster.port) as connected:
            yield connected


def operator_of(kind: str, script: str) -> Any:
    if kind == "job":
        return TitanJobOperator(task_id="t", script=script, deferrable=True)
    return TitanDagOperator(task_id="t", jobs=[{"job_id": "a", "script": script}], deferrable=True)


@pytest.mark.usefixtures("master")
@pytest.mark.parametrize("kind", ["job", "dag"])
def test_a_job_that_ends_soon_never_defers_its_task(
    kind: str, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SOON", LONG)
    script = "import titan_job; titan_job.result(7)"
    assert in_time(lambda: operator_of(kind, script).execute(context)) == (7 if kind == "job" else {"a": 7})


@pytest.mark.parametrize("kind", ["job", "dag"])
def test_one_that_does_not_is_left_to_a_trigger(
    kind: str, context: Any, master: TitanClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SOON", 0.3)
    gate = tmp_path / "gate"
    script = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)"
    with pytest.raises(TaskDeferred) as deferred:
        in_time(lambda: operator_of(kind, script).execute(context))
    gate.touch()
    trigger: Any = deferred.value.trigger
    job_id = trigger.job_id if kind == "job" else trigger.jobs["a"]["job_id"]
    assert master.wait_for_job(job_id, timeout=LONG).state.is_success


@pytest.mark.parametrize(
    ("end", "late", "looks"), [(0.05, 0.1, 2), (0.3, 0.25, 6), (2.0, 1.2, 10), (600.0, 2.0, 420)]
)
async def test_a_master_without_wait_is_looked_at_often_at_first_and_seldom_later(
    end: float, late: float, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "_now", lambda: now)
    schedule = Schedule()
    schedule.add("j", 2.0)
    seen = []
    while not seen or seen[-1] < end:
        ((now, _),) = schedule._due
        assert await schedule.next() == "j"
        seen.append(now)
        schedule.again("j", changed=False, slowest=0.0, many=False)
    assert seen[-1] <= end + late
    assert len(seen) <= looks
    pauses = [after - before for before, after in itertools.pairwise(seen)]
    assert pauses[0] <= 0.1
    assert max(pauses) <= 2.0


def test_the_pauses_grow_from_a_tenth_of_a_second_to_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titan_provider.work.waiting.jittered", lambda seconds: seconds)
    pace = Pace(1.0)
    assert [round(pace.next(), 3) for _ in range(8)] == [0.1, 0.15, 0.225, 0.338, 0.506, 0.759, 1.0, 1.0]
    pace.restart()
    assert pace.next() == 0.1
    assert Pace(0.02).next() == 0.02


async def test_a_triggerer_asks_about_few_jobs_at_the_same_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """About many it asks more seldom: their master's statistics tell of ends."""
    monkeypatch.setattr("titan_provider.triggers.status_poller.random.uniform", lambda _, most: most)
    planned: list[float] = []
    monkeypatch.setattr(Schedule, "_put", lambda _, __, seconds: planned.append(seconds))
    for many, last in ((False, 1.0), (True, 15.0)):
        schedule = Schedule()
        schedule.add("j", 1.0)
        planned.clear()
        for _ in range(20):
            schedule.again("j", changed=False, slowest=0.0, many=many)
        assert planned[0] == 0.1
        assert planned[-1] == last
        schedule.again("j", changed=True, slowest=0.0, many=many)
        assert planned[-1] == 0.1
    await asyncio.sleep(0)
