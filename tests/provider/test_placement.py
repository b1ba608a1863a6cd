"""A placement timeout is about a job's first start: a job that waits again before another attempt is left alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from tests.provider.waits import wait_as_a_task
from titan_provider.events import JobEvent, Outcome
from titan_provider.operators.titan import TitanJobOperator
from titan_provider.triggers.job import TitanJobTrigger
from titan_provider.work.plan import KnownJob
from titan_provider.work.watch import WorkWatch
from titan_sdk import JobStatus, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster

pytestmark = pytest.mark.airflow

AT_ONCE = 0.0
SCRIPT = """
import os, sys, time
base = sys.argv[1]
print("attempt", flush=True)
while not os.path.exists(base + ".gate"):
    time.sleep(0.02)
first = not os.path.exists(base + ".second")
open(base + ".second", "w").close()
sys.exit(1 if first else 0)
"""


class Lines:
    """The task log; wakes whoever waits for a line."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def info(self, event: str, *args: object, **_: object) -> None:
        self.seen.append(event % args)
        self._loop.call_soon_threadsafe(self._news.set)

    warning = error = exception = debug = info

    async def have(self, text: str) -> None:
        async with asyncio.timeout(30):
            while not any(text in line for line in self.seen):
                await self._news.wait()
                self._news.clear()


class Place:
    """A cluster with one slot, and the job that has it."""

    def __init__(self, cluster: LocalCluster, client: TitanClient, folder: Path) -> None:
        self.client = client
        self.folder = folder
        (folder / "job.py").write_text(SCRIPT)
        self.nonce = client.submit_job(self._job("first", max_attempts=2)).nonce
        next(iter(client.follow_logs("first")))  # it runs
        self.address = cluster.address

    def _job(self, name: str, **fields: Any) -> TitanJob:
        return TitanJob(name, str(self.folder / "job.py"), args=[str(self.folder / name)], **fields)

    def push_out(self) -> None:
        """The job fails, and before its second attempt another one takes the slot."""
        (self.folder / "other.second").touch()
        self.client.submit_job(self._job("other", priority=9))
        (self.folder / "first.gate").touch()

    def let_end(self) -> None:
        (self.folder / "other.gate").touch()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with (
        LocalCluster({"GENERAL": 1}, slots=1, data_dir=tmp_path / "titan") as cluster,
        TitanClient(cluster.host, cluster.port) as client,
    ):
        monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", f"titan://{cluster.address}")
        yield Place(cluster, client, tmp_path)


async def watch_task(place: Place, log: Lines) -> None:
    watch = WorkWatch(
        {"first": KnownJob("first", place.nonce or "", "", ())},
        log,
        poll_interval=0.05,
        unreachable_timeout=30,
        placement_timeout=AT_ONCE,
    )
    await wait_as_a_task(watch, place.client.config, log)


async def watch_trigger(place: Place, log: Lines) -> None:
    trigger = TitanJobTrigger(
        "titan_default", "first", poll_interval=0.05, placement_deadline=time.time() + AT_ONCE
    )
    trigger._log = log  # type: ignore[assignment]
    async for fired in trigger.run():
        event = JobEvent.from_dict(fired.payload)
        assert event.outcome is Outcome.ENDED, event.message


async def watch_dag(place: Place, log: Lines) -> None:
    jobs = {"one": KnownJob("first", place.nonce or "", "", ())}
    watch = WorkWatch(
        jobs,
        log,
        poll_interval=0.05,
        log_interval=0.05,
        unreachable_timeout=30,
        placement_timeout=AT_ONCE,
    )
    await wait_as_a_task(watch, place.client.config, log)


@pytest.mark.parametrize("watch", [watch_task, watch_trigger, watch_dag])
async def test_a_job_that_has_started_may_wait_before_another_attempt(
    place: Place, watch: Callable[[Place, Lines], Awaitable[None]]
) -> None:
    log = Lines()
    waiting = asyncio.ensure_future(watch(place, log))
    try:
        await log.have("attempt")
        place.push_out()
        await log.have("Waiting for a worker")
        place.let_end()
        await asyncio.wait_for(waiting, 30)
    finally:
        waiting.cancel()
    assert place.client.get_job_status("first") is JobStatus.COMPLETED


def test_the_wait_for_admission_does_not_count(place: Place) -> None:
    task = TitanJobOperator(
        task_id="t",
        script="print(1)",
        deferrable=True,
        placement_timeout=60,
        do_xcom_push=False,
        durable=False,
    )
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1, max_tries=0)
    context: Any = {"ti": ti, "dag_run": SimpleNamespace(clear_number=0, start_date=None)}
    hours_ago = time.time() - 7200
    admitted = JobEvent(Outcome.ADMITTED, {"admitted": JobStatus.UNKNOWN}, since=hours_ago).to_dict()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute_admitted(context, admitted)
    assert deferred.value.trigger.placement_deadline > time.time()
