"""The way of a run: what is stored when, whatever the engine does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from pytest_mock import MockerFixture

from titan_sdk.cluster.engines.base import NoRoom, Placed, Process, RunRequest, RunResult, StagingFailed
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.logs import FileLogs
from titan_sdk.cluster.master import runs as runs_module
from titan_sdk.cluster.master.final_records import FinalRecords
from titan_sdk.cluster.master.runs import Runs
from titan_sdk.cluster.master.scheduler import Outcome
from titan_sdk.cluster.master.state import State
from titan_sdk.cluster.store.changes import InsertJobs, StoreFailed
from titan_sdk.cluster.store.rows import ServiceState
from titan_sdk.cluster.store.sqlite import SqliteStore
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.jobs import JobLine

SUCCESS = RunResult(Outcome.SUCCESS, 0)
INTERRUPTED = RunResult(Outcome.INTERRUPTED, None, "it never began")


class Stored(NamedTuple):
    """What is durable of a job; the store itself already counts what is decided."""

    status: JobStatus
    handle: str | None
    attempts: int
    service: int


class Engine:
    """Does what a test tells it, and remembers what the store held at every step."""

    chooses_places = keeps_runs = False
    problem: str | None = None

    def __init__(self, stored: Callable[[str], Stored]) -> None:
        self._stored = stored
        self.steps: list[tuple[str, JobStatus, bool]] = []
        """Step, and of the job's row the status and whether it has a handle."""
        self.staging: list[StagingFailed] = []
        self.endings: asyncio.Queue[RunResult] = asyncio.Queue()
        self.begun: asyncio.Queue[Process] = asyncio.Queue()
        self.killed: list[Process] = []

    def _step(self, name: str, request: RunRequest) -> None:
        row = self._stored(request.job_id)
        self.steps.append((name, row.status, row.handle is not None))

    async def open(self) -> None: ...

    async def stage(self, request: RunRequest) -> Process:
        self._step("stage", request)
        if self.staging:
            raise self.staging.pop(0)
        return Process(request, "here")

    async def run(self, process: Process, placed: Placed) -> RunResult:
        self._step("run", process.request)
        self.begun.put_nowait(process)
        return await self.endings.get()

    async def reattach(self, process: Process, placed: Placed) -> RunResult:
        return await self.run(process, placed)

    def kill(self, process: Process) -> None:
        self.killed.append(process)

    def forget(self, process: Process) -> None:
        self._step("forget", process.request)

    def port_problem(self, port: int) -> str | None: ...

    async def answers(self, process: Process, port: int) -> None: ...

    async def abandon(self) -> None: ...

    async def close(self) -> None:
        self.endings.put_nowait(RunResult(Outcome.FAILURE, None, "it was killed"))


class Master:
    """A state with one worker, and an engine that runs nothing."""

    def __init__(self, root: Path) -> None:
        self._data = DataDir(root)
        self.store = SqliteStore(self._data.database, asyncio.get_running_loop())
        self.state = State(self.store, FileLogs(self._data, 1000))
        self.engine = Engine(self.row)
        self.runs = Runs(self.state, self.engine, 60.0, FinalRecords(None))
        self.runs.perform(self.state.scheduler.add_worker("one", ["GENERAL"], 1))

    async def submit(self, name: str = "job", header: str = "RUN_PAYLOAD") -> None:
        fields = ("a.py", "", "", "GENERAL") if header == "RUN_PAYLOAD" else ("a.py", "", "7", "GENERAL")
        specs, rows = self.state.new_jobs([JobLine(name, header, fields)], {}, None)
        await self.store.journal.write(InsertJobs(tuple(rows)))
        now = self.state.clock.now()
        self.runs.perform(self.state.scheduler.submit(specs, self.state.settled, now))

    def row(self, name: str = "job") -> Stored:
        wanted = "SELECT status, handle, attempts, service FROM jobs WHERE job_id = ?"
        status, *rest = self.store.db.execute(wanted, (name,)).fetchone()
        return Stored(JobStatus(status), *rest)

    async def until(self, status: JobStatus, name: str = "job", *, handle: bool = False) -> None:
        async with asyncio.timeout(60):
            while self.row(name).status is not status or (self.row(name).handle is not None) != handle:  # noqa: ASYNC110 - the store says nothing
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        await self.runs.abandon()
        await self.store.close()
        self._data.release()


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[Master]:
    made = Master(tmp_path / "data")
    yield made
    await made.close()


async def test_nothing_begins_before_it_is_stored_and_nothing_is_removed_before_its_end_is(
    master: Master,
) -> None:
    await master.submit()
    master.engine.endings.put_nowait(SUCCESS)
    await master.until(JobStatus.COMPLETED)
    await master.store.journal.write()
    assert master.engine.steps == [
        ("stage", JobStatus.PENDING, False),
        ("run", JobStatus.RUNNING, True),
        ("forget", JobStatus.COMPLETED, False),
    ]


async def test_a_cancelled_jobs_handle_and_slot_stay_until_its_process_is_gone(master: Master) -> None:
    await master.submit()
    await master.submit("next")
    process = await master.engine.begun.get()
    effects = master.state.scheduler.cancel("job")
    master.runs.perform(effects)
    await master.until(JobStatus.CANCELLED, handle=True)
    assert master.engine.killed == [process]
    assert master.row("next").status is JobStatus.PENDING
    master.engine.endings.put_nowait(RunResult(Outcome.FAILURE, None, "it was killed"))
    await master.until(JobStatus.CANCELLED)
    await master.until(JobStatus.RUNNING, "next", handle=True)
    await master.engine.begun.get()
    assert ("forget", JobStatus.CANCELLED, False) in master.engine.steps


async def test_a_job_that_is_cancelled_while_it_is_staged_never_begins(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "RETRY_SECONDS", 60.0)
    master.engine.staging = [NoRoom("the disk is full")]
    await master.submit()
    await asyncio.sleep(0)
    effects = master.state.scheduler.cancel("job")
    master.runs.perform(effects)
    await master.runs.idle()
    await master.store.journal.write()
    assert [step for step, _, _ in master.engine.steps] == ["stage"]
    assert (master.row().status, master.row().handle) == (JobStatus.CANCELLED, None)


async def test_a_job_that_finds_no_room_is_staged_again_and_loses_no_run(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "RETRY_SECONDS", 0.001)
    master.engine.staging = [NoRoom("the disk is full")] * 3
    await master.submit()
    master.engine.endings.put_nowait(SUCCESS)
    await master.until(JobStatus.COMPLETED)
    assert master.row().attempts == 1


async def test_a_master_that_lets_go_ends_nothing_and_stores_nothing(master: Master) -> None:
    await master.submit()
    await master.engine.begun.get()
    await master.runs.abandon()
    assert master.engine.killed == []
    assert (master.row().status, master.row().handle) == (JobStatus.RUNNING, "here")


async def test_a_master_that_is_stopped_ends_its_runs_and_queues_them_again(master: Master) -> None:
    await master.submit()
    process = await master.engine.begun.get()
    master.state.scheduler.hold()
    await master.runs.close()
    await master.store.journal.write()
    assert master.engine.killed == [process]
    assert (master.row().status, master.row().handle, master.row().attempts) == (JobStatus.PENDING, None, 0)
    assert master.engine.steps[-1] == ("forget", JobStatus.PENDING, False)


async def test_a_stop_does_not_wait_for_a_store_that_cannot_be_written(
    master: Master, mocker: MockerFixture
) -> None:
    await master.submit()
    await master.engine.begun.get()
    master.state.scheduler.hold()
    full = mocker.patch.object(master.store, "commit", side_effect=StoreFailed("the disk is full"))
    async with asyncio.timeout(60):
        await master.runs.close()
    mocker.stop(full)
    assert master.engine.steps[-1][0] == "run"


async def test_a_service_whose_start_was_interrupted_is_started_again(master: Master) -> None:
    """As when its master is killed after it has stored the start and before the process begins."""
    master.engine.staging = [StagingFailed("Ray cannot be reached", Outcome.INTERRUPTED)]
    await master.submit("svc", "DEPLOY_PAYLOAD")
    await master.engine.begun.get()
    await master.until(JobStatus.COMPLETED, "svc", handle=True)
    assert master.row("svc").service == ServiceState.LIVE
