"""What a kept connection can save on this machine at most: an echo of a few bytes, with nothing else in it.

A process that only echoes, built on the same event loop as the bundled master; a client that connects once, and
one that connects for every call as the upstream SDK does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["connecting", "kept"]

MESSAGE = b"x" * 40


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


def kept(seconds: float) -> float:
    """Echoes per second over one connection."""
    with _server() as address, socket.create_connection(address) as connection:
        return _rate(lambda: _echo(connection), seconds)


def connecting(seconds: float) -> float:
    """Echoes per second over a connection each."""
    with _server() as address:

        def once() -> None:
            with socket.create_connection(address) as connection:
                _echo(connection)

        return _rate(once, seconds)


def _echo(connection: socket.socket) -> None:
    connection.sendall(MESSAGE)
    connection.recv(len(MESSAGE))


def _rate(action: Callable[[], None], seconds: float) -> float:
    done, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds:
        action()
        done += 1
    return done / took


@contextlib.contextmanager
def _server() -> Iterator[tuple[str, int]]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.echo"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield "127.0.0.1", int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
