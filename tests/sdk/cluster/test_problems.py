"""What fails behind the requests: nothing is lost, the rest goes on, and somebody who looks sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.sdk.cluster.peer import Peer, script
from titan_sdk.cli.main import app as titan
from titan_sdk.cluster.app import App
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.store.journal import Batch
from titan_sdk.cluster.store.sqlite import SqliteStore
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    made = App(ClusterSettings(tmp_path, port=0, workers={"GENERAL": 1}, sweep_seconds=0.05), "0")
    made.peer = Peer(await made.start())  # type: ignore[attr-defined]
    yield made
    await made.stop()


async def problems(app: App) -> list[dict[str, object]]:
    reply = await asyncio.to_thread(app.peer.ask, Opcode.STATS_JSON)  # type: ignore[attr-defined]
    found: list[dict[str, object]] = json.loads(reply.text)["problems"]
    return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - other tasks do the work
            await asyncio.sleep(0.02)


async def test_a_commit_that_fails_for_want_of_memory_loses_no_job(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fails = SqliteStore.commit, iter([False, True, True, True])

    def commit(self: SqliteStore, batch: Batch) -> object:
        if (batch.inserts or batch.rows) and next(fails, False):
            raise MemoryError
        return real(self, batch)

    monkeypatch.setattr(SqliteStore, "commit", commit)
    peer: Peer = app.peer  # type: ignore[attr-defined]
    taken = [
        job
        for job in ("a", "b", "c")
        if "ACCEPTED" in (await asyncio.to_thread(peer.submit, script(f"DAG-{job}", "pass"))).text
    ]
    assert taken
    for job in taken:
        assert await asyncio.to_thread(peer.until, f"DAG-{job}") == "COMPLETED"
    assert await problems(app) == []


async def test_what_fails_in_the_background_is_shown_until_it_works_again(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert app._master is not None
    store, peer = app._master.state.store, app.peer  # type: ignore[attr-defined]

    async def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(store, "finished_before", broken)

        async def failed_often() -> bool:
            return [p["says"] for p in await problems(app) if int(str(p["times"])) > 2] == [
                "RuntimeError: a fault of ours"
            ]

        await until(failed_often)
        host, port = peer.address
        arguments = ["doctor", "--host", host, "--port", str(port)]
        ran = await asyncio.to_thread(CliRunner().invoke, titan, arguments)
        assert ran.exit_code == 0, ran.output
        assert "removing what is old: RuntimeError: a fault of ours" in " ".join(ran.output.split())
    await until(lambda: is_well(app))
    assert len([r for r in caplog.records if "a fault of ours" in r.getMessage()]) == 1, "one line a minute"


async def is_well(app: App) -> bool:
    return await problems(app) == []


async def test_a_store_that_cannot_be_written_is_shown(app: App) -> None:
    assert app._master is not None
    db = app._master.state.store.db  # type: ignore[attr-defined]
    db.execute("PRAGMA query_only=1")
    app._master.state.record_event("DAG-x", "a remark", "that cannot be stored")
    await until(lambda: says(app, "writing the master's state", "readonly"))
    db.execute("PRAGMA query_only=0")
    await until(lambda: is_well(app))


async def says(app: App, what: str, words: str) -> bool:
    return any(p["what"] == what and words in str(p["says"]) for p in await problems(app))


async def test_a_callback_that_fails_is_shown(app: App) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("in a task")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await until(lambda: says(app, "unexpected: Task exception was never retrieved", "in a task"))
    assert len(await problems(app)) == 2
