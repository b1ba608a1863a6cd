"""The port: frames in, replies out."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from titan_sdk.cluster.problems import Sparingly
from titan_sdk.cluster.server.access import Gate
from titan_sdk.cluster.server.budget import Budget
from titan_sdk.cluster.server.connection import Connection, Reader
from titan_sdk.cluster.server.descriptors import capacity
from titan_sdk.cluster.server.takeover import TakeOver
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.wire import once
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import Opcode, reply_opcode

__all__ = ["Answer", "Reply", "Server"]

log = logging.getLogger(__name__)

Reply = str | bytes
"""Text, whose first word decides the opcode (section 1.1), or bytes, which are always an ACK."""

Answer = Callable[[Frame], Reply | TakeOver | Awaitable[Reply]]
"""A reply, a future of one, or a coroutine."""

_LARGE_AT_ONCE = 4
"""How many replies that may have megabytes are made at a time."""
_FINISH_SECONDS = 2.0
_KNOWN = frozenset(Opcode)
_BACKLOG = 512
_ACCEPTED_AT_ONCE = 32
"""Connections that are accepted before there is a look at whether there is room for them."""
_EVICTABLE_SECONDS = 5.0
"""A connection that has been idle for so long gives way when there is no room for a new one."""


class Server:
    """Listens, and hands every request to ``answer``.

    Args:
        keeps: a connection that begins with HELLO is kept for more requests.

    Raises:
        InvalidArgument: the TLS files of the settings cannot be used.
    """

    def __init__(self, settings: ClusterSettings, answer: Answer, *, keeps: bool = True) -> None:
        self.settings = settings
        self.keeps = keeps
        self.loop = asyncio.get_running_loop()
        self.gate = Gate(settings.token)
        self.context: ssl.SSLContext | None = None if settings.tls is None else settings.tls.context()
        self.budget = Budget(settings.max_buffered_bytes)
        """Of requests that are read and carried out, and of replies."""
        self.waiting = Budget(settings.max_buffered_bytes // 4)
        """Of requests that wait for something to happen, so that they leave the others' alone."""
        self.large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self.answered: Counter[int] = Counter()
        """Requests by opcode; those that nobody knows count as -1."""
        self.requests = 0
        """How many are being answered."""
        self.dropped = 0
        """How many peers were dropped for lack of room."""
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._answer = answer
        self._capacity = capacity(settings)
        self._sparingly = Sparingly(log)
        self._closed = False
        self._listeners: list[asyncio.Server] = []
        self._connections: dict[Connection, None] = {}
        self._strangers: dict[Connection, None] = {}
        """Those of them that have neither asked anything nor shown the token, oldest first."""

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def buffered(self) -> int:
        """Bytes kept in memory for all peers together."""
        return self.budget.held + self.waiting.held

    # ------------------------------------------------------------------ requests

    def begin(self, frame: Frame) -> Frame | TakeOver | Awaitable[Frame]:
        """Carry out a request: its reply, the rest of the work that makes it, or who has the connection now."""
        try:
            answered = self._answer(frame)
        except Exception as exc:  # noqa: BLE001
            answered = self._failed(frame.opcode, exc)
        if isinstance(answered, TakeOver):
            self._count(frame)
            return answered
        if isinstance(answered, str | bytes):
            self._count(frame)
            return self.frame_of(answered)
        return self._in_time(frame, answered)

    async def _in_time(self, frame: Frame, answered: Awaitable[Reply]) -> Frame:
        self._count(frame)
        try:
            reply = await answered
        except Exception as exc:  # noqa: BLE001
            reply = self._failed(frame.opcode, exc)
        return self.frame_of(reply)

    def _count(self, frame: Frame) -> None:
        opcode = once.inner_opcode(frame.payload) if frame.opcode == Opcode.ONCE else frame.opcode
        self.answered[opcode if opcode in _KNOWN else -1] += 1

    def _failed(self, opcode: int, exc: Exception) -> str:
        log.error("opcode 0x%02X failed", opcode, exc_info=exc)
        return f"SERVER_ERROR: {exc}"

    @staticmethod
    def frame_of(reply: Reply) -> Frame:
        """A reply as it is sent."""
        if isinstance(reply, bytes):
            return Frame(Opcode.ACK, reply)
        return Frame(reply_opcode(reply), reply.encode("utf-8", "replace"))

    def began(self) -> None:
        """A request is being answered, until ``ended``: its reply is written."""
        self.requests += 1
        self._quiet.clear()

    def ended(self) -> None:
        self.requests -= 1
        if not self.requests:
            self._quiet.set()

    # ------------------------------------------------------------------ room

    def let_in(self, connection: Connection) -> None:
        """It has asked something that is answered."""
        self._strangers.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        self._strangers.pop(connection, None)

    def _connected(self, reader: Reader, writer: asyncio.StreamWriter, *, trusted: bool) -> None:
        # Closed: it was accepted in the turn in which the port was closed.
        if self._closed or not self._make_room():
            writer.transport.abort()
            return
        connection = Connection(self, reader, writer, trusted=trusted)
        self._connections[connection] = self._strangers[connection] = None

    def _make_room(self) -> bool:
        """Whether there is room for one more. A stranger gives way first, then what has long been idle."""
        if len(self._connections) < self._capacity:
            return True
        self.dropped += 1
        self._sparingly.say(
            "room", f"{len(self._connections)} connections are open: some are refused or dropped"
        )
        victim = next(iter(self._strangers), None) or self._long_idle()
        if victim is None:
            return False
        self.leave(victim)
        victim.abort()
        return True

    def _long_idle(self) -> Connection | None:
        limit = self.loop.time() - _EVICTABLE_SECONDS
        idle = [(c.idle_since, c) for c in self._connections if c.idle_since is not None]
        since, longest = min(idle, key=lambda pair: pair[0], default=(limit + 1, None))
        return longest if since <= limit else None

    # ------------------------------------------------------------------ life

    async def listen(self) -> tuple[str, int]:
        """Open the port; the address that clients on this machine use.

        Raises:
            OSError: the port is taken or not allowed.
        """
        listener = await self.loop.create_server(
            self._protocol,
            self.settings.host,
            self.settings.port,
            backlog=_ACCEPTED_AT_ONCE,
            start_serving=False,
        )
        self._listeners.append(listener)
        host, port = listener.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def listen_locally(self, path: Path) -> None:
        """Open a Unix socket in a folder that only this user can enter: no TLS and no token there.

        Raises:
            OSError: it cannot be made.
        """
        listener = await self.loop.create_unix_server(
            lambda: self._protocol(trusted=True), str(path), backlog=_ACCEPTED_AT_ONCE, start_serving=False
        )
        os.chmod(path, 0o600)
        self._listeners.append(listener)

    def _protocol(self, *, trusted: bool = False) -> asyncio.StreamReaderProtocol:
        reader = Reader(self.loop)
        return asyncio.StreamReaderProtocol(
            reader, lambda _, writer: self._connected(reader, writer, trusted=trusted), self.loop
        )

    async def serve(self) -> None:
        """Begin to accept."""
        for listener in self._listeners:
            await listener.start_serving()
            for opened in listener.sockets:
                # What asyncio calls the backlog is also how many it accepts in one go.
                with socket.socket(fileno=os.dup(opened.fileno())) as same:
                    same.listen(_BACKLOG)

    def stop_accepting(self) -> None:
        """Close the port."""
        for listener in self._listeners:
            listener.close()

    async def close(self) -> None:
        """Let requests that have begun be answered, within reason; then close every connection."""
        self.stop_accepting()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_SECONDS):
                await self._quiet.wait()
        self._closed = True
        open_ones = list(self._connections)
        for connection in open_ones:
            connection.abort()
        if open_ones:
            await asyncio.wait(
                [self.loop.create_task(connection.ended()) for connection in open_ones],
                timeout=_FINISH_SECONDS,
            )
