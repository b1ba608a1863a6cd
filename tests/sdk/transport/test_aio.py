"""A peer that does not read a large request: the exchange ends in time, and its connection with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from titan_sdk import ClientConfig, TimedOut
from titan_sdk.transport.aio import exchange
from titan_sdk.wire.opcodes import Opcode

LARGE = bytes(9_000_000)


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


def config_of(listener: socket.socket, seconds: float) -> ClientConfig:
    return ClientConfig("127.0.0.1", listener.getsockname()[1], timeout=seconds)


async def reads_to_the_end(connection: socket.socket) -> None:
    def read() -> None:
        connection.settimeout(60)
        try:
            while connection.recv(1 << 20):
                pass
        except ConnectionResetError:
            pass

    with connection:
        await asyncio.to_thread(read)


async def test_it_is_over_when_its_time_is(deaf: socket.socket) -> None:
    async with asyncio.timeout(60):
        with pytest.raises(TimedOut):
            await exchange(config_of(deaf, 0.2), "put", Opcode.KV_SET, LARGE)
    await reads_to_the_end(deaf.accept()[0])


async def test_it_is_over_when_it_is_cancelled(deaf: socket.socket) -> None:
    put = asyncio.create_task(exchange(config_of(deaf, 600), "put", Opcode.KV_SET, LARGE))
    connection, _ = await asyncio.to_thread(deaf.accept)
    await asyncio.to_thread(connection.recv, 1, socket.MSG_PEEK)
    put.cancel()
    await asyncio.wait([put], timeout=60)
    assert put.cancelled()
    await reads_to_the_end(connection)
