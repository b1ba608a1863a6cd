"""A master whose disk is full."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.sdk.cluster.peer import Peer, script
from titan_sdk.cluster.app import App
from titan_sdk.cluster.engines import staging
from titan_sdk.cluster.master import runs
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.store.changes import StoreFailed

BIG = "x" * 300_000


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    made = App(ClusterSettings(tmp_path, port=0), "0")
    yield made
    await made.stop()


def fill(app: App) -> None:
    """From here on the database cannot grow."""
    assert app._master is not None
    db = app._master.state.store.db  # type: ignore[attr-defined]
    db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0]}")


def free(app: App) -> None:
    assert app._master is not None
    app._master.state.store.db.execute("PRAGMA max_page_count=1000000")  # type: ignore[attr-defined]


async def test_a_full_disk_refuses_jobs_and_values_and_loses_nothing(app: App, tmp_path: Path) -> None:
    peer = Peer(await app.start())

    async def ask(opcode: int, text: str) -> str:
        return (await asyncio.to_thread(peer.ask, opcode, text)).text

    assert app._master is not None
    db = app._master.state.store.db
    assert await ask(0x60, "small|value") == "OK"
    db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0]}")
    big = "x" * 300_000
    assert (await ask(0x60, f"key|{big}")).startswith("SERVER_ERROR: the master's store does not do this")
    reply = await ask(0x04, script("job", f"open('{tmp_path}/ran', 'w') # {big}"))
    assert reply.startswith("ERROR: the jobs could not be stored (")
    assert "nothing was queued" in reply
    assert await ask(0x55, "job") == "NULL"
    assert await ask(0x61, "key") == "NULL"
    assert await ask(0x61, "small") == "value"
    db.execute("PRAGMA max_page_count=1000000")
    assert await ask(0x60, f"key|{big}") == "OK"
    assert await ask(0x04, script("job", "pass")) == "DAG_ACCEPTED"
    assert not (tmp_path / "ran").exists()


async def test_who_is_refused_leaves_the_log_of_the_ids_last_run(app: App) -> None:
    peer = Peer(await app.start())
    await asyncio.to_thread(peer.submit, script("DAG-x", "print('first')"))
    assert await asyncio.to_thread(peer.until, "DAG-x") == "COMPLETED"
    fill(app)
    assert not (await asyncio.to_thread(peer.ask, 0x60, "key|" + BIG)).ok
    for number in (1, 300):
        jobs = [script("DAG-x", f"pass # {BIG}"), *(script(f"DAG-{n}", "pass") for n in range(number))]
        assert "could not be stored" in (await asyncio.to_thread(peer.submit, *jobs)).text
        assert await asyncio.to_thread(peer.log, "DAG-x") == "first\n"
    free(app)
    await asyncio.to_thread(peer.submit, script("DAG-x", "print('second')"))
    await asyncio.to_thread(peer.until, "DAG-x", "COMPLETED")
    assert await asyncio.to_thread(peer.log, "DAG-x") == "second\n"


# ---------------------------------------------------------------------- a start that has to wait


@pytest.fixture
def no_room(mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While something is in it, there is no room for a job's files."""
    full = [True]
    real = staging._write

    def refuse(path: str, data: bytes) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    mocker.patch.object(staging, "_write", refuse)
    monkeypatch.setattr(runs, "RETRY_SECONDS", 0.01)
    return full


async def test_a_job_waits_for_room_for_its_files(
    app: App, no_room: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer(await app.start())
    await asyncio.to_thread(peer.submit, script("waits", "print('ran')"))
    async with asyncio.timeout(240):
        while "job DAG-waits waits: its files could not be put in place" not in caplog.text:  # noqa: ASYNC110 - another task's
            await asyncio.sleep(0.01)
    no_room.clear()
    assert await asyncio.to_thread(peer.until, "waits") == "COMPLETED"
    assert await asyncio.to_thread(peer.log, "waits") == "ran\n"


async def test_one_that_waits_for_room_can_be_cancelled(app: App, no_room: list[bool]) -> None:
    peer = Peer(await app.start())
    await asyncio.to_thread(peer.submit, script("waits", "print('ran')"))
    assert await asyncio.to_thread(peer.until, "waits", "RUNNING") == "RUNNING"
    assert await asyncio.to_thread(peer.cancel, "waits") == "CANCELLED"
    assert app._master is not None
    await app._master.runs.idle()
    no_room.clear()
    await asyncio.to_thread(peer.submit, script("next", "print('ran')"))
    assert await asyncio.to_thread(peer.until, "next") == "COMPLETED"


async def test_a_job_that_cannot_be_read_at_the_moment_starts_when_it_can(
    app: App, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "RETRY_SECONDS", 0.01)
    peer = Peer(await app.start())
    assert app._master is not None
    state = app._master.state
    line, failures = state.line, [StoreFailed("the disk cannot be read")] * 3
    mocker.patch.object(state, "line", lambda job: line(job) if not failures else fail(failures.pop()))
    await asyncio.to_thread(peer.submit, *(script(f"DAG-{n}", "pass") for n in range(6)))
    for n in range(6):
        assert await asyncio.to_thread(peer.until, f"DAG-{n}") == "COMPLETED"
    assert not failures


def fail(exc: StoreFailed) -> None:
    raise exc
