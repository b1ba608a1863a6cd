"""What a task log says beside the job's lines, in every way of waiting: progress, and why a job waits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.provider.waits import wait_as_a_task
from tests.support.airflow_run import unique
from titan_provider.triggers.job import TitanJobTrigger
from titan_provider.work.plan import KnownJob
from titan_provider.work.watch import PROGRESS_EVERY, ProgressLines, WorkWatch, describe_progress
from titan_sdk import TitanClient, TitanJob

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_connection")]

Watch = Callable[[TitanClient, str, str, "Lines", str], Awaitable[None]]
PATIENCE = 60
SCRIPT = """
import os, sys, time, titan_job
titan_job.progress(0.4, "epoch\\n4")
print("begun", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
"""


class Lines:
    """The task log, with the level of each line; wakes whoever waits for one."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def _add(self, level: str, text: str) -> None:
        self.seen.append((level, text))
        self._loop.call_soon_threadsafe(self._news.set)

    def info(self, event: str, *args: object, **_: object) -> None:
        self._add("info", event % args)

    def warning(self, event: str, *args: object, **_: object) -> None:
        self._add("warning", event % args)

    error = exception = debug = warning

    async def have(self, text: str) -> tuple[str, str]:
        async with asyncio.timeout(PATIENCE):
            while True:
                for line in self.seen:
                    if text in line[1]:
                        return line
                await self._news.wait()
                self._news.clear()


async def watch_task(client: TitanClient, job_id: str, nonce: str, log: Lines, tag: str) -> None:
    jobs = {job_id: KnownJob(job_id, nonce, "", (), tag)}
    watch = WorkWatch(jobs, log, poll_interval=0.05, unreachable_timeout=30)
    await wait_as_a_task(watch, client.config, log)


async def watch_trigger(client: TitanClient, job_id: str, nonce: str, log: Lines, tag: str) -> None:
    trigger = TitanJobTrigger("titan_default", job_id, tag, poll_interval=0.05, nonce=nonce)
    trigger._log = log  # type: ignore[assignment]
    assert [event async for event in trigger.run()]


async def watch_dag(client: TitanClient, job_id: str, nonce: str, log: Lines, tag: str) -> None:
    jobs = {"one": KnownJob(job_id, nonce, "", (), tag)}
    watch = WorkWatch(jobs, log, poll_interval=0.05, log_interval=0.05, unreachable_timeout=30)
    await wait_as_a_task(watch, client.config, log)


EVERY_WAY = pytest.mark.parametrize("watch", [watch_task, watch_trigger, watch_dag])


@EVERY_WAY
async def test_progress_is_shown_while_the_job_runs(
    client: TitanClient, tmp_path: Path, watch: Watch
) -> None:
    (tmp_path / "job.py").write_text(SCRIPT)
    gate = tmp_path / "gate"
    job = client.submit_job(TitanJob(unique("job"), str(tmp_path / "job.py"), args=[gate]))  # type: ignore[list-item]
    log = Lines()
    waiting = asyncio.ensure_future(watch(client, job.job_id, job.nonce or "", log, "GENERAL"))
    try:
        level, line = await log.have("40 %, epoch 4")
        assert (level, "Progress: 40 %, epoch 4" in line) == ("info", True)
        gate.touch()
        await asyncio.wait_for(waiting, PATIENCE)
    finally:
        waiting.cancel()
        gate.touch()
    assert sum("40 %" in line for _, line in log.seen) == 1
    assert not any("::group::" in line for _, line in log.seen) or watch is watch_dag


@EVERY_WAY
async def test_a_tag_that_no_worker_has_is_a_warning_with_the_nearest_one(
    client: TitanClient, tmp_path: Path, watch: Watch
) -> None:
    (tmp_path / "job.py").write_text("print(1)")
    job = client.submit_job(TitanJob(unique("job"), str(tmp_path / "job.py"), requirement="gpu"))
    log = Lines()
    waiting = asyncio.ensure_future(watch(client, job.job_id, job.nonce or "", log, "gpu"))
    try:
        level, line = await log.have("no worker has the tag")
    finally:
        job.cancel()
        await asyncio.wait_for(waiting, PATIENCE)
    assert level == "warning"
    # What matters stands before the id.
    assert line.startswith(
        "Waiting for a worker: no worker has the tag 'gpu' (tags present: GENERAL, GPU); did you mean 'GPU'? (job "
    )


def test_progress_is_asked_for_at_a_bounded_rate_and_told_once() -> None:
    clock = [0.0]
    told: list[str] = []

    class Log:
        def info(self, event: str, *args: object) -> None:
            told.append(event % args)

        warning = info

    lines = ProgressLines(Log(), clock=lambda: clock[0])
    due = []
    for tenth in range(600):
        clock[0] = tenth / 10
        if lines.is_due():
            due.append(clock[0])
            lines.tell((0.1, "a") if clock[0] < 20 else (0.2, "a"))
    assert told == ["Progress: 10 %, a", "Progress: 20 %, a"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(due)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(PROGRESS_EVERY)
    assert len(due) < 10


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (None, ""),
        ((None, ""), ""),
        ((None, "loading"), "loading"),
        ((0.0, ""), "0 %"),
        ((1.0, "a\r\n b"), "100 %, a b"),
    ],
)
def test_progress_is_one_line(progress: tuple[float | None, str] | None, text: str) -> None:
    assert describe_progress(progress) == text
