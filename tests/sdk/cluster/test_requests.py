"""Requests of one connection, in their order, through a real connection to a real node."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import frame, script
from tests.support.redis_server import RedisServer
from titan_sdk.cluster.app import App
from titan_sdk.cluster.requests.titanstore import LARGE_REPLY
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.store.changes import StoreFailed
from titan_sdk.wire.frames import FrameDecoder
from titan_sdk.wire.opcodes import Opcode

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    made = App(ClusterSettings(tmp_path / "data", port=0), "test")
    made.address = await made.start()  # type: ignore[attr-defined]
    yield made
    await made.stop()


async def talk(app: App, *frames: bytes, hello: bool = True) -> list[str]:
    """The replies to frames that are sent at once."""
    reader, writer = await asyncio.open_connection(*app.address, limit=1 << 24)  # type: ignore[attr-defined]
    writer.write((frame(Opcode.HELLO, "") if hello else b"") + b"".join(frames))
    decoder, found = FrameDecoder(limit=None), []
    async with asyncio.timeout(30):
        while len(found) < len(frames) + hello:
            data = await reader.read(1 << 16)
            assert data, found
            decoder.feed(data)
            while (one := decoder.next_frame()) is not None:
                found.append(one.text)
        if not hello:
            assert await reader.read(1) == b""
    writer.close()
    return found[1:] if hello else found


async def test_pipelined_requests_are_carried_out_in_order(app: App) -> None:
    frames = [one for n in range(200) for one in (frame(Opcode.KV_SET, f"k|{n}"), frame(Opcode.KV_GET, "k"))]
    assert await talk(app, *frames) == [word for n in range(200) for word in ("OK", str(n))]


async def test_without_a_greeting_the_connection_is_closed_after_the_reply(app: App) -> None:
    assert await talk(app, frame(Opcode.KV_SET, "k|v"), hello=False) == ["OK"]
    assert await talk(app, frame(Opcode.KV_GET, "k"), hello=False) == ["v"]


async def test_a_value_that_is_sent_at_its_readers_pace(app: App) -> None:
    large = "x" * (LARGE_REPLY + 1)
    found = await talk(
        app, frame(Opcode.KV_SET, f"k|{large}"), frame(Opcode.KV_GET, "k"), frame(Opcode.KV_GET, "none")
    )
    assert found == ["OK", large, "NULL"]


async def test_a_large_value_is_read_once_from_the_file(app: App) -> None:
    large, statements = "x" * (LARGE_REPLY + 1), list[str]()
    assert await talk(app, frame(Opcode.KV_SET, f"k|{large}"), frame(Opcode.KV_SET, "s|v")) == ["OK", "OK"]
    assert app._storage is not None
    app._storage.store.db.set_trace_callback(statements.append)  # type: ignore[attr-defined]
    assert await talk(app, frame(Opcode.KV_GET, "k"), frame(Opcode.KV_GET, "s")) == [large, "v"]
    app._storage.store.db.set_trace_callback(None)  # type: ignore[attr-defined]
    assert [text for text in statements if text.startswith("SELECT value")] == [
        "SELECT value FROM kv WHERE key = 'k'"
    ]


async def test_a_large_value_is_read_once_from_redis(redis_server: RedisServer, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    settings = ClusterSettings(tmp_path / "data", port=0, store=redis_server.url, store_prefix=prefix)
    app = App(settings, "test")
    app.address = await app.start()  # type: ignore[attr-defined]
    large = "x" * (LARGE_REPLY + 1)
    assert await talk(app, frame(Opcode.KV_SET, f"k|{large}")) == ["OK"]
    before = gets(redis_server)
    assert await talk(app, frame(Opcode.KV_GET, "k")) == [large]
    assert gets(redis_server) == before + 1
    await app.stop()


def gets(server: RedisServer) -> int:
    """How many values the server was asked for."""
    found = re.search(rb"cmdstat_get:calls=(\d+)", server.say("INFO", "commandstats"))
    return int(found.group(1)) if found else 0


async def test_sets_tell_what_was_new(app: App) -> None:
    add = frame(Opcode.KV_SADD, "s|m")
    assert await talk(app, add, add, frame(Opcode.KV_SMEMBERS, "s")) == ["1", "0", "m"]


@pytest.mark.parametrize("opcode", [Opcode.KV_SET, Opcode.KV_SADD])
async def test_half_a_pair_is_refused(app: App, opcode: Opcode) -> None:
    assert await talk(app, frame(opcode, "alone")) == ["ERROR: Invalid Format"]


async def test_a_submission_is_known_once_it_is_answered(app: App) -> None:
    line = script("a", "pass", delay=3_600_000)
    submit, ask = frame(Opcode.SUBMIT_DAG, line), frame(Opcode.GET_JOB_STATUS, "DAG-a")
    accepted, state, again = await talk(app, submit, ask, submit)
    assert (accepted, state) == ("DAG_ACCEPTED", "PENDING")
    assert "still PENDING" in again


async def test_what_the_store_does_not_take_is_not_acknowledged(app: App) -> None:
    backing = app._storage
    assert backing is not None
    backing.store.db.execute("PRAGMA query_only = 1")  # type: ignore[attr-defined]
    submit = frame(Opcode.SUBMIT_DAG, script("a", "pass"))
    put, add = frame(Opcode.KV_SET, "k|v"), frame(Opcode.KV_SADD, "s|m")
    refused = await talk(app, put, add, submit, frame(Opcode.GET_JOB_STATUS, "DAG-a"))
    backing.store.db.execute("PRAGMA query_only = 0")  # type: ignore[attr-defined]
    assert all("store" in reply and "OK" not in reply for reply in refused[:3])
    assert refused[3] == "NULL"


async def test_a_submission_that_is_stored_and_cannot_be_queued_is_answered_once(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise StoreFailed("disk I/O error")

    assert app._master is not None
    with monkeypatch.context() as patch:
        patch.setattr(app._master.state.scheduler, "submit", broken)
        submit = frame(Opcode.SUBMIT_DAG, script("a", "pass", delay=3_600_000))
        found = await talk(app, submit, frame(Opcode.KV_SET, "k|v"), frame(Opcode.KV_GET, "k"))
    assert found == ["DAG_ACCEPTED", "OK", "v"]
    assert "the next master queues them" in caplog.text
    await app.stop()
    again = App(ClusterSettings(tmp_path / "data", port=0), "test")
    again.address = await again.start()  # type: ignore[attr-defined]
    assert await talk(again, frame(Opcode.GET_JOB_STATUS, "DAG-a")) == ["PENDING"]
    await again.stop()
