"""The outermost layer, byte by byte (protocol section 1)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Reply, frame, read_exactly
from titan_sdk.cluster.server.server import Answer, Server
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.wire.frames import Frame

LIMIT = 10_485_760


class Echo:
    """A server whose answer is the request, and clients of it that count bytes."""

    def __init__(self, tmp_path: Path, **settings: float | str) -> None:
        self.release = asyncio.Event()
        self.release.set()
        self.begun = asyncio.Event()
        self.server = Server(ClusterSettings(tmp_path, port=0, **settings))  # type: ignore[arg-type]
        self.answers: Answer = self.answer
        self.address = ("", 0)

    async def answer(self, frame: Frame) -> str | bytes:
        self.begun.set()
        await self.release.wait()
        opcode, payload = frame.opcode, frame.text
        if payload == "boom":
            raise RuntimeError("it broke")
        return f"{opcode}:{payload}" if len(payload) < 100 else f"{opcode}:{len(payload)}"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address, limit=2 * LIMIT)


def beginner(tmp_path: Path) -> tuple[Echo, asyncio.Queue[Callable[[str], None]]]:
    """One whose requests are begun and answered by whoever takes their reply out of the queue."""
    begun: asyncio.Queue[Callable[[str], None]] = asyncio.Queue()

    def answer(_: Frame) -> asyncio.Future[str | bytes]:
        answered: asyncio.Future[str | bytes] = asyncio.get_running_loop().create_future()
        begun.put_nowait(answered.set_result)
        return answered

    made = Echo(tmp_path)
    made.answers = answer
    return made, begun


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[Echo]:
    async for made in serve(Echo(tmp_path)):
        yield made


async def serve(made: Echo) -> AsyncIterator[Echo]:
    made.address = await made.server.listen()
    await made.server.serve(made.answers)
    yield made
    await made.server.close()


async def everything(reader: asyncio.StreamReader) -> bytes:
    """All bytes until the server closes, however it does so."""
    data = b""
    try:
        async with asyncio.timeout(20):
            while chunk := await reader.read(1 << 16):
                data += chunk
    except ConnectionError:
        pass
    return data


async def exchange(echo: Echo, data: bytes) -> bytes:
    reader, writer = await echo.open()
    try:
        writer.write(data)
        await writer.drain()
    except ConnectionError:
        pass
    found = await everything(reader)
    writer.close()
    return found


async def test_one_frame_in_one_frame_out_then_closed(echo: Echo) -> None:
    assert await exchange(echo, frame(0x08, "hé")) == frame(0x50, "8:hé")


async def test_bytes_may_arrive_one_by_one(echo: Echo) -> None:
    reader, writer = await echo.open()
    for byte in frame(0x08, "slow"):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert await everything(reader) == frame(0x50, "8:slow")
    writer.close()


async def test_a_pipelined_second_request_is_dropped(echo: Echo) -> None:
    assert await exchange(echo, frame(8, "one") + frame(8, "two")) == frame(0x50, "8:one")


async def test_after_hello_requests_follow_each_other(echo: Echo) -> None:
    reader, writer = await echo.open()
    writer.write(frame(0x40, "") + frame(8, "one") + frame(8, "two"))
    expected = frame(0x50, "64:") + frame(0x50, "8:one") + frame(0x50, "8:two")
    assert await reader.readexactly(len(expected)) == expected
    writer.write(frame(9, "three"))
    assert await reader.readexactly(15) == frame(0x50, "9:three")
    writer.close()


@pytest.mark.parametrize(
    "data",
    [
        frame(8, "x", version=2),
        b"GET / HTTP/1.1\r\n\r\n",
        frame(8, "", length=LIMIT + 1),
        frame(8, "", length=-1),
    ],
    ids=["version", "http", "too long", "negative"],
)
async def test_what_is_not_titan_is_closed_without_a_reply(echo: Echo, data: bytes) -> None:
    assert await exchange(echo, data) == b""


async def test_exactly_the_limit_is_taken(echo: Echo) -> None:
    assert await exchange(echo, frame(8, b"x" * LIMIT)) == frame(0x50, f"8:{LIMIT}")


async def test_text_that_is_not_utf8_is_replaced(echo: Echo) -> None:
    assert await exchange(echo, frame(8, b"a\xff")) == frame(0x50, "8:a�")


async def test_a_failure_inside_is_an_answer(echo: Echo) -> None:
    assert await exchange(echo, frame(8, "boom")) == frame(0x51, "SERVER_ERROR: it broke")


async def test_a_half_sent_frame_is_dropped_after_a_while(tmp_path: Path) -> None:
    async for echo in serve(Echo(tmp_path, frame_timeout_seconds=0.1)):
        assert await exchange(echo, frame(8, "x", length=100)) == b""


async def test_a_silent_connection_is_dropped_after_a_longer_while(tmp_path: Path) -> None:
    async for echo in serve(Echo(tmp_path, idle_timeout_seconds=0.1)):
        assert await exchange(echo, b"") == b""


async def test_without_room_a_peer_that_has_asked_nothing_gives_way(tmp_path: Path) -> None:
    async for echo in serve(Echo(tmp_path, max_connections=1)):
        silent, silent_writer = await echo.open()
        assert await exchange(echo, frame(8, "new")) == frame(0x50, "8:new")
        assert await everything(silent) == b""
        silent_writer.close()


async def test_without_room_a_peer_that_is_being_answered_keeps_its_place(tmp_path: Path) -> None:
    async for echo in serve(Echo(tmp_path, max_connections=1)):
        echo.release.clear()
        first, first_writer = await echo.open()
        first_writer.write(frame(8, "first"))
        await echo.begun.wait()
        assert await exchange(echo, frame(8, "refused")) == b""
        echo.release.set()
        assert await everything(first) == frame(0x50, "8:first")
        first_writer.close()


async def test_a_request_is_carried_out_even_if_its_client_leaves(echo: Echo) -> None:
    echo.release.clear()
    sock = socket.create_connection(echo.address)
    sock.sendall(frame(8, "left"))
    other_reader, other_writer = await echo.open()
    other_writer.write(frame(8, "stayed"))
    sock.close()
    echo.release.set()
    assert await everything(other_reader) == frame(0x50, "8:stayed")
    other_writer.close()


async def test_a_client_that_sends_nothing_more_gets_its_reply(echo: Echo) -> None:
    reader, writer = await echo.open()
    writer.write(frame(8, "half"))
    writer.write_eof()
    assert await everything(reader) == frame(0x50, "8:half")
    writer.close()


async def test_what_was_begun_is_answered_before_the_server_has_closed(
    tmp_path: Path,
) -> None:
    made, begun = beginner(tmp_path)
    async for echo in serve(made):
        reader, writer = await echo.open()
        writer.write(frame(8, "first") + frame(8, "dropped"))
        reply = await begun.get()
        finished = asyncio.create_task(echo.server.close())
        await asyncio.sleep(0)
        assert (finished.done(), echo.server.requests) == (False, 1)
        reply("late")
        await finished
        assert await everything(reader) == frame(0x50, "late")
        assert (begun.empty(), echo.server.requests, echo.server.buffered) == (True, 0, 0)
        writer.close()


async def test_a_client_that_left_before_its_reply_costs_nothing(tmp_path: Path) -> None:
    made, begun = beginner(tmp_path)
    async for echo in serve(made):
        _, writer = await echo.open()
        writer.write(frame(8, "left"))
        reply = await begun.get()
        writer.transport.abort()
        later = asyncio.create_task(exchange(echo, frame(8, "later")))
        reply_later = await begun.get()  # by now the server has seen that the first one left
        reply("to nobody")
        reply_later("to somebody")
        assert await later == frame(0x50, "to somebody")
        await echo.server.close()
        assert (echo.server.requests, echo.server.buffered, echo.server.connections) == (0, 0, 0)


def test_the_raw_client_of_these_tests_reads_what_it_writes() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(frame(0x50, "x"))
        assert read_exactly(right, 9) == frame(0x50, "x")
    assert Reply(0x51, "").ok is False
