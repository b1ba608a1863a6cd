"""What becomes of an id that is used again while its last job is being forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.sdk.cluster.peer import Meeting, Peer, script
from titan_sdk.cluster.app import App
from titan_sdk.cluster.master.admission import check_job
from titan_sdk.cluster.retention import Housekeeping, forget_before
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    made = App(ClusterSettings(tmp_path / "data", port=0, slots=4), "0")
    yield made
    await made.stop()


def job(job_id: str, code: str) -> str:
    """One outside a DAG, which has a folder of its own."""
    return script(job_id, code).rpartition("|")[0]


async def test_a_job_that_is_submitted_again_meanwhile_keeps_its_log_and_its_folder(
    app: App, meeting: Meeting
) -> None:
    peer = Peer(await app.start())
    master = app._master
    assert master is not None
    # A sweep looks at one job in a turn, and to take a submission takes some turns.
    names = ["first", *(f"between-{n}" for n in range(8)), "second", "newest"]
    for name in names:
        line = job(name, "open('left', 'w'); print('first run')")
        assert (await asyncio.to_thread(peer.ask, Opcode.SUBMIT_JOB, line)).ok
        await asyncio.to_thread(peer.until, name, "COMPLETED")
    state, data = master.state, master.data
    folders = [next(data.workers.glob(f"*/titan_workspace/{name}")) for name in names]
    uploads = master.uploads
    sweep = asyncio.ensure_future(
        forget_before(state.clock.now() + 1, state.store, state.logs, data, uploads)
    )
    await asyncio.sleep(0)
    assert [folder.exists() for folder in folders] == [False, *[True] * 10]
    code = "import os; open('mine', 'w'); " + meeting.code("up") + "print('second run', os.listdir('.'))"
    await master.submit([check_job(job("second", code))], {})
    assert folders[-2].exists()
    await sweep
    await asyncio.to_thread(meeting.arrival)
    await forget_before(state.clock.now() + 1, state.store, state.logs, data, uploads)
    meeting.let_go()
    assert await asyncio.to_thread(peer.until, "second") == "COMPLETED"
    assert "second run" in await asyncio.to_thread(peer.log, "second")
    assert "mine" in await asyncio.to_thread(peer.log, "second")
    assert await asyncio.to_thread(peer.status, "first") == "NULL"
    assert await asyncio.to_thread(peer.log, "first") == ""
    assert not list(data.workers.glob("*/titan_workspace/.runs/forgotten.*"))


async def test_a_job_that_never_started_has_nothing_of_the_ids_last_run_in_its_log(
    app: App, tmp_path: Path
) -> None:
    """Its master was killed after it had taken the job, and before it had removed that log."""
    peer = Peer(await app.start())
    await asyncio.to_thread(peer.submit, script("again", "pass", tag="NOBODY"))
    assert app._master is not None
    log = app._master.data.log_file("again")
    await app.stop()
    log.write_text("of the last run\n")
    next_one = App(ClusterSettings(tmp_path / "data", port=0), "0")
    peer = Peer(await next_one.start())
    assert await asyncio.to_thread(peer.status, "again") == "PENDING"
    assert await asyncio.to_thread(peer.log, "again") == ""
    await next_one.stop()


async def test_a_cancellation_that_a_library_swallows_does_not_keep_the_master(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    entered = asyncio.Event()

    async def swallow(self: Housekeeping) -> None:
        entered.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    mocker.patch.object(Housekeeping, "sweep", swallow)
    app = App(ClusterSettings(tmp_path / "data", port=0, sweep_seconds=0.01), "0")
    await app.start()
    await entered.wait()
    await asyncio.wait_for(app.stop(), 30)
