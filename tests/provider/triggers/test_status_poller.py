"""One task per master asks for all jobs: by WAIT where there is one, by polling within a rate where there is none."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from titan_provider.triggers import status_poller as module
from titan_provider.triggers.status_poller import StatusPoller
from titan_sdk import ClusterStats, JobHistoryEntry, JobStatus, ServerInfo, WorkerStats

RUNNING, COMPLETED, UNKNOWN = JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.UNKNOWN


class Master:
    """A master in memory, with or without WAIT, that counts what it is asked."""

    def __init__(self, *features: str) -> None:
        self.info = ServerInfo("test", "1", frozenset(features))
        self.states: dict[str, JobStatus] = {}
        self.active: tuple[str, ...] = ()
        self.history: tuple[JobHistoryEntry, ...] = ()
        self.asked: dict[str, int] = {}
        self.largest = 0
        self.trouble: Exception | None = None
        self._ended = asyncio.Event()

    def end(self, job_id: str) -> None:
        self.states[job_id] = COMPLETED
        self._ended.set()

    async def ask(self, request: Callable[[Any], Awaitable[Any]], patience: float) -> Any:
        assert patience == math.inf
        return await request(self)

    async def server_info(self) -> ServerInfo:
        self._count("server_info")
        if self.trouble:
            trouble, self.trouble = self.trouble, None
            raise trouble
        return self.info

    async def get_job_statuses(self, ids: list[str], *, wait: float = 0.0) -> dict[str, JobStatus]:
        self._count("many")
        self.largest = max(self.largest, len(ids))
        found = {job_id: self.states.get(job_id, UNKNOWN) for job_id in ids}
        if wait and not any(state.is_terminal for state in found.values()):
            self._ended.clear()
            try:
                await asyncio.wait_for(self._ended.wait(), wait)
            except TimeoutError:
                pass
        return {job_id: self.states.get(job_id, UNKNOWN) for job_id in ids}

    async def get_job_status(self, job_id: str, *, nonce: str | None = None) -> JobStatus:
        self._count("one")
        return self.states.get(job_id, UNKNOWN)

    async def cluster_stats(self) -> ClusterStats:
        self._count("stats")
        worker = WorkerStats("w", 1, ("GENERAL",), 1, 4, active_jobs=self.active, history=self.history)
        return ClusterStats((worker,))

    def _count(self, what: str) -> None:
        self.asked[what] = self.asked.get(what, 0) + 1


async def until(watch: module.Watch, status: JobStatus) -> None:
    async with asyncio.timeout(20):
        while watch.status is not status:
            await watch.news(20)


@pytest.fixture(params=[("wait",), ()], ids=["wait", "poll"])
def master(request: pytest.FixtureRequest) -> Master:
    return Master(*request.param)


async def test_a_change_wakes_who_watches(master: Master) -> None:
    poller = StatusPoller(master)
    master.states = {"a": RUNNING, "b": RUNNING}
    with poller.watch("a", 0.05) as a, poller.watch("b", 0.05) as b:
        await until(a, RUNNING)
        await until(b, RUNNING)
        master.end("a")
        await until(a, COMPLETED)
        assert b.status is RUNNING
        with poller.watch("b", 0.05) as late:  # joins while others are being waited for
            await until(late, RUNNING)
            master.end("b")
            await until(late, COMPLETED)
            await until(b, COMPLETED)
    assert not len(poller)


async def test_it_stops_with_the_last_watch_and_starts_again(master: Master) -> None:
    poller = StatusPoller(master)
    master.states = {"a": COMPLETED}
    for _ in range(2):
        with poller.watch("a", 0.05) as watch:
            await until(watch, COMPLETED)
        tasks = {task.get_name() for task in asyncio.all_tasks() if not task.cancelling()}
        assert "titan-status-poller" not in tasks


async def test_trouble_does_not_end_it(master: Master, caplog: pytest.LogCaptureFixture) -> None:
    poller = StatusPoller(master)
    master.trouble = RuntimeError("what nobody thought of")
    master.states = {"a": COMPLETED}
    with poller.watch("a", 0.05) as watch:
        await until(watch, COMPLETED)
    assert "Asking for the states of 1 jobs failed; trying again" in caplog.text


async def test_a_thousand_jobs_share_a_few_requests() -> None:
    master = Master("wait")
    poller = StatusPoller(master)
    ids = [f"job-{n}" for n in range(1000)]
    master.states = dict.fromkeys(ids, RUNNING)
    watches = [(job_id, poller.watch(job_id, 5.0)) for job_id in ids]
    open_watches = {job_id: watch.__enter__() for job_id, watch in watches}
    await asyncio.gather(*(until(watch, RUNNING) for watch in open_watches.values()))
    for job_id in ids:
        master.end(job_id)
    await asyncio.gather(*(until(watch, COMPLETED) for watch in open_watches.values()))
    for _, watch in watches:
        watch.__exit__(None, None, None)
    assert master.asked["many"] <= 8 * module.GROUPS
    assert master.largest <= 400, "split among the groups"
    assert "one" not in master.asked


async def test_polling_stays_within_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RATE", 500.0)
    master = Master()
    poller = StatusPoller(master)
    master.states = {f"job-{n}": RUNNING for n in range(500)}
    opened = [poller.watch(job_id, 0.001) for job_id in master.states]
    watches = [watch.__enter__() for watch in opened]
    await asyncio.gather(*(until(watch, RUNNING) for watch in watches))
    first = master.asked["one"]
    began = asyncio.get_running_loop().time()
    while master.asked["one"] < first + 500:
        await watches[0].news(0.05)
    # Every job once more takes a second at that rate, less the jitter.
    assert asyncio.get_running_loop().time() - began > 0.7
    for watch in opened:
        watch.__exit__(None, None, None)


@pytest.mark.parametrize("job_id", ["a", "DAG-a"])
@pytest.mark.parametrize("sign", ["active", "history"])
async def test_the_masters_statistics_hurry_what_a_worker_has_ended(
    monkeypatch: pytest.MonkeyPatch, job_id: str, sign: str
) -> None:
    """A real worker names only one of the jobs it runs, but the last ten that it ended."""
    monkeypatch.setattr(module, "HINT_EVERY", 0.05)
    monkeypatch.setattr(module, "WORTH_A_HINT", 1)
    monkeypatch.setattr(module, "FIRST_LOOK", 600.0)
    master = Master()
    poller = StatusPoller(master)
    master.states = {job_id: RUNNING}
    master.active = ("DAG-a",) if sign == "active" else ("DAG-other",)
    with poller.watch(job_id, 600.0) as watch:
        await until(watch, RUNNING)
        while master.asked.get("stats", 0) < 3:
            await watch.news(0.01)
        if sign == "active":
            master.active = ()
        else:
            master.history = (JobHistoryEntry("DAG-a", COMPLETED),)
        master.end(job_id)
        await until(watch, COMPLETED)
    assert master.asked["one"] <= 4
