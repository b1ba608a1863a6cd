"""The TCP shell: frames in, replies out. Nothing here knows what a job is."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from titan_sdk.cluster.access import Gate
from titan_sdk.cluster.connection import Connection
from titan_sdk.cluster.descriptors import capacity
from titan_sdk.cluster.problems import Sparingly
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.wire import once
from titan_sdk.wire.frames import Frame, encode_frame
from titan_sdk.wire.opcodes import Opcode, reply_opcode

__all__ = ["Answer", "Server"]

log = logging.getLogger(__name__)

Reply = str | bytes
"""Text, whose first word decides the opcode (section 1.1), or bytes, which are always an ACK."""

Answer = Callable[[Frame], Reply | Awaitable[Reply]]
"""A reply, a future of one, or a coroutine, which is given a task."""

_LARGE = frozenset(
    {
        Opcode.GET_LOGS,
        Opcode.LOG_READ,
        Opcode.FETCH_ASSET,
        Opcode.ASSET_READ,
        Opcode.KV_GET,
        Opcode.KV_SMEMBERS,
        Opcode.STORE_KEYS,
    }
)
"""Requests whose reply may have megabytes."""
_LARGE_AT_ONCE = 4
"""How many of those are made at a time. Each keeps the loop for some milliseconds: 200 in one turn would for seconds."""
_FINISH_SECONDS = 2.0
_KNOWN = frozenset(Opcode)
_BACKLOG = 512
_ACCEPTED_AT_ONCE = 32
"""Connections that are accepted before there is a look at whether there is room for them."""
_EVICTABLE_SECONDS = 5.0
"""A connection that has been idle for so long gives way when there is no room for a new one."""


class Server:
    """Listens, and hands every request to ``answer``.

    Raises:
        InvalidArgument: the TLS files of the settings cannot be used.
    """

    def __init__(self, settings: ClusterSettings, answer: Answer) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.gate = Gate(settings.token)
        self.context: ssl.SSLContext | None = None if settings.tls is None else settings.tls.context()
        self.buffered = 0
        """Bytes kept in memory for all peers together."""
        self._leaving = 0
        """Those of them that belong to peers that were dropped and are gone in a moment."""
        self._gone = asyncio.Event()
        self._gone.set()
        self._sparingly = Sparingly(log)
        self._capacity = capacity(settings)
        self.dropped = 0
        """How many peers were dropped for lack of room."""
        self._closed = False
        self.answered: Counter[int] = Counter()
        """Requests by opcode; those that nobody knows count as -1."""
        self._answer = answer
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._listeners: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._strangers: dict[Connection, None] = {}
        """Those of them that have not shown the token, oldest first."""
        self._requests: set[asyncio.Future[None]] = set()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def requests(self) -> int:
        """How many are being answered."""
        return len(self._requests)

    def begin(self, frame: Frame) -> bytes | Awaitable[Reply]:
        """Carry out a request: its encoded reply, or what is to be given to ``in_time``."""
        try:
            answered = self._answer(frame)
        except Exception as exc:  # noqa: BLE001
            answered = self._failed(frame.opcode, exc)
        if not asyncio.iscoroutine(answered):
            self._count(frame)
        return self.encode(answered) if isinstance(answered, str | bytes) else answered

    async def in_time(self, frame: Frame, answered: Awaitable[Reply]) -> bytes:
        """The encoded reply, in time."""
        if asyncio.iscoroutine(answered):
            self._count(frame)  # it begins now
        try:
            # The journal answers many futures at once, and must not meet one that was cancelled.
            reply = await (asyncio.shield(answered) if isinstance(answered, asyncio.Future) else answered)
        except Exception as exc:  # noqa: BLE001
            reply = self._failed(frame.opcode, exc)
        return self.encode(reply)

    def _failed(self, opcode: int, exc: Exception) -> str:
        log.error("opcode 0x%02X failed", opcode, exc_info=exc)
        return f"SERVER_ERROR: {exc}"

    def _count(self, frame: Frame) -> None:
        opcode = once.inner_opcode(frame.payload) if frame.opcode == Opcode.ONCE else frame.opcode
        self.answered[opcode if opcode in _KNOWN else -1] += 1

    @staticmethod
    def encode(reply: str | bytes) -> bytes:
        """The frame of a reply."""
        if isinstance(reply, bytes):
            return encode_frame(Opcode.ACK, reply, limit=None)
        return encode_frame(reply_opcode(reply), reply.encode("utf-8", "replace"), limit=None)

    def spawn(self, request: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Carry out a request whatever becomes of its connection."""
        task = self.loop.create_task(request)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return task

    def outstanding(self) -> asyncio.Future[None]:
        """A request whose reply comes later, to be given to ``over`` then."""
        request: asyncio.Future[None] = self.loop.create_future()
        self._requests.add(request)
        return request

    def over(self, request: asyncio.Future[None]) -> None:
        """It was answered."""
        self._requests.discard(request)
        request.set_result(None)

    # ------------------------------------------------------------------ room

    def admit(self, connection: Connection, *, stranger: bool) -> bool:
        """Whether there is room for one more. Whoever has not shown the token gives way first, then what has long been
        idle; strangers take half of the room at most.
        """
        if self._closed:  # it was accepted in the turn in which the port was closed
            return False
        crowd = stranger and len(self._strangers) >= max(self._capacity // 2, 1)
        if crowd or len(self._connections) >= self._capacity:
            self.dropped += 1
            victim = next(iter(self._strangers), None) or self._long_idle()
            self._sparingly.say(
                "room", f"{len(self._connections)} connections are open: some are refused or dropped"
            )
            if victim is None:
                return False
            self._drop(victim)
        self._connections.add(connection)
        if stranger:
            self._strangers[connection] = None
        return True

    def _long_idle(self) -> Connection | None:
        now = self.loop.time()
        idle = [c for c in self._connections if c.is_idle and now - c.since >= _EVICTABLE_SECONDS]
        return min(idle, key=lambda c: c.since, default=None)

    def let_in(self, connection: Connection) -> None:
        """It has shown the token."""
        self._strangers.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._strangers.pop(connection, None)

    def charge(self, connection: Connection, size: int) -> None:
        """Account for bytes kept for a peer. Over the limit, whoever has kept the master waiting longest goes."""
        change, connection.held = size - connection.held, size
        self.buffered += change
        if connection.dropped:
            self._leaving += change
            if not self._leaving:
                self._gone.set()
        if change <= 0 or self._remaining <= self.settings.max_buffered_bytes:
            return
        slow = sorted((c for c in self._connections if c.is_slow), key=lambda c: c.since)
        for victim in slow:
            if self._remaining <= self.settings.max_buffered_bytes:
                return
            self.dropped += 1
            self._sparingly.say("slow", f"dropping slow peers: {self.buffered} bytes are kept for all")
            self._drop(victim)

    @property
    def _remaining(self) -> int:
        return self.buffered - self._leaving

    @asynccontextmanager
    async def room(self, opcode: int) -> AsyncIterator[bool]:
        """Room for a reply to be made in. Large ones wait for each other, so that many of them, asked for by peers
        that may not even read, do not hold up whoever asks for a status. Yields whether others may be in line.
        """
        is_large = opcode in _LARGE
        async with self._large if is_large else nullcontext():
            # What was kept for dropped peers is given up in a moment; a reply made now would come on top of it.
            while self._leaving:
                await self._gone.wait()
            yield is_large

    def _drop(self, connection: Connection) -> None:
        self.leave(connection)
        connection.dropped = True
        self._leaving += connection.held
        if connection.held:
            self._gone.clear()
        connection.abort()

    # ------------------------------------------------------------------ life

    async def listen(self) -> tuple[str, int]:
        """Open the port; the address that clients on this machine use.

        Raises:
            OSError: the port is taken or not allowed.
        """
        listener = await self.loop.create_server(
            lambda: Connection(self),
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
            lambda: Connection(self, trusted=True), str(path), backlog=_ACCEPTED_AT_ONCE, start_serving=False
        )
        os.chmod(path, 0o600)
        self._listeners.append(listener)

    async def serve(self) -> None:
        """Begin to accept."""
        for listener in self._listeners:
            await listener.start_serving()
            for opened in listener.sockets:
                # What asyncio calls the backlog is also how many it accepts in one go.
                with socket.socket(fileno=os.dup(opened.fileno())) as same:
                    same.listen(_BACKLOG)

    async def stop_accepting(self) -> None:
        """Close the port."""
        for listener in self._listeners:
            listener.close()
            await listener.wait_closed()

    async def finish(self) -> None:
        """Let requests that have begun be answered, within reason."""
        if self._requests:
            await asyncio.wait(self._requests, timeout=_FINISH_SECONDS)

    def drop_all(self) -> None:
        """Close every connection."""
        self._closed = True
        for connection in list(self._connections):
            connection.abort()
