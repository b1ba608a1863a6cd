"""A master that is killed and started again while tasks wait: nobody fails, and the log has every line once."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.provider.waits import wait_as_a_task
from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting
from tests.support.flaky_proxy import FlakyProxy
from titan_provider.events import JobEvent, Outcome
from titan_provider.triggers.job import TitanJobTrigger
from titan_provider.work.plan import KnownJob
from titan_provider.work.watch import WorkWatch
from titan_sdk import ClientConfig, JobStatus, TitanClient, TitanJob

# Slow: Masters are killed under waiting tasks.
pytestmark = [pytest.mark.airflow, pytest.mark.slow]


class Lines:
    """The task log."""

    def __init__(self) -> None:
        self.copied: list[str] = []
        self.warnings: list[str] = []
        self.first = threading.Event()

    def info(self, event: str, *args: object, **_: object) -> None:
        text = event % args
        if not text.startswith("::"):
            self.copied.append(text)
            self.first.set()

    def warning(self, event: str, *args: object, **_: object) -> None:
        self.warnings.append(event % args)

    error = exception = debug = warning


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    made = Meeting()
    yield made
    made.close()


@pytest.fixture
def master(tmp_path: Path) -> Iterator[MasterProcess]:
    made = MasterProcess(tmp_path / "data")
    yield made
    made.close()


async def by_task(client: TitanClient, job_id: str, log: Lines) -> None:
    jobs = {job_id: KnownJob(job_id, "", "", ())}
    watch = WorkWatch(jobs, log, poll_interval=0.05, unreachable_timeout=300)
    await wait_as_a_task(watch, client.config, log)


async def by_trigger(_: TitanClient, job_id: str, log: Lines) -> None:
    trigger = TitanJobTrigger("titan_default", job_id, poll_interval=0.05)
    trigger._log = log  # type: ignore[assignment]
    async for fired in trigger.run():
        event = JobEvent.from_dict(fired.payload)
        assert event.outcome is Outcome.ENDED, event.message


@pytest.mark.parametrize("wait", [by_task, by_trigger])
async def test_a_master_killed_and_started_again_fails_no_task(
    tmp_path: Path,
    master: MasterProcess,
    meeting: Meeting,
    monkeypatch: pytest.MonkeyPatch,
    wait: Callable[[TitanClient, str, Lines], Awaitable[None]],
) -> None:
    script = tmp_path / "job.py"
    script.write_text("print('before', flush=True)\n" + meeting.code("job") + "print('after')")
    address, log, job_id = master.start().address, Lines(), f"away-{uuid.uuid4().hex[:8]}"
    with FlakyProxy(*address) as proxy, FlakyProxy(*address) as for_workers:
        workers = f"127.0.0.1%3A{for_workers.port}"
        monkeypatch.setenv(
            "AIRFLOW_CONN_TITAN_DEFAULT", f"titan://127.0.0.1:{proxy.port}/?worker_address={workers}"
        )
        config = ClientConfig("127.0.0.1", proxy.port, worker_address=("127.0.0.1", for_workers.port))
        with TitanClient(config=config) as client:
            client.submit_job(TitanJob(job_id, str(script)))
            waiting = asyncio.ensure_future(wait(client, job_id, log))
            await asyncio.to_thread(meeting.arrival)
            assert await asyncio.to_thread(log.first.wait, 30)
            master.kill()
            await asyncio.to_thread(until_refused, proxy, 3)
            assert not waiting.done()
            proxy.target = for_workers.target = master.start().address
            meeting.let_go()
            await asyncio.wait_for(waiting, 60)
            assert client.get_job_status(job_id) is JobStatus.COMPLETED
    assert log.copied == ["before", "after"]


def until_refused(proxy: FlakyProxy, count: int) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if proxy.refused >= count:
            return
        pause.wait(0.02)
    raise AssertionError(f"{proxy.refused} connections were refused")
