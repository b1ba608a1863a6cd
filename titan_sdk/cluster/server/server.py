"""The port of the master: reads frames, and sends replies."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from titan_sdk.cluster.problems import Sparingly
from titan_sdk.cluster.server.access import Access
from titan_sdk.cluster.server.limits import ByteBudget, connection_limit
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire import exactly_once
from titan_sdk.wire.frames import HEADER_SIZE, MAX_PAYLOAD, Frame, decode_header, encode_frame, encode_header
from titan_sdk.wire.opcodes import Opcode, reply_opcode

__all__ = ["LIMIT", "Answer", "Reader", "Reply", "Server", "ServerConnection", "TakeOver"]

log = logging.getLogger(__name__)

LIMIT = 64 * 1024
"""Bytes that are read ahead. Frames and replies up to this size are not charged to the budget;
larger replies are written in pieces of this size."""
_STRANGER_PAYLOAD = LIMIT
"""The largest frame of a peer before it has shown the token."""
_SLOWEST = 64 * 1024
"""The average rate in bytes per second at which a peer must send and receive, beyond the patience per frame."""
_SHUTDOWN_SECONDS = 2.0
_AT_ONCE = 32
"""Pipelined requests that are answered before other connections have a turn."""

_HELD = frozenset({Opcode.WAIT, Opcode.CHANGES})
"""Requests that wait for an event and end with their connection. All other requests are carried out to their end."""
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
"""Requests with large replies. Few are made at a time: 200 in one turn of the loop would take seconds."""
_LARGE_AT_ONCE = 4
"""The most large replies that are made at a time."""
_FINISH_SECONDS = 2.0
_KNOWN = frozenset(Opcode)
_BACKLOG = 512
_ACCEPTED_AT_ONCE = 32
"""Connections that are accepted before the limit is checked."""
_EVICTABLE_SECONDS = 5.0
"""Seconds after which an idle connection is closed for a new one, if the limit is reached."""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A handler's answer that takes the connection over, until ``serve`` returns."""

    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


Reply = str | bytes
"""A text, whose first word decides the opcode (section 1.1), or bytes, which are always an ACK."""

Answer = Callable[[Frame], Reply | TakeOver | Awaitable[Reply]]
"""A reply, or an awaitable of one."""

Sentence = Callable[[int, Exception], str | None]


# ---------------------------------------------------------------------- one peer


class Reader(asyncio.StreamReader):
    """Reports the end of the stream at once, also while nothing is being read."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(LIMIT, loop)
        self.ended: asyncio.Future[None] = loop.create_future()

    def feed_eof(self) -> None:
        super().feed_eof()
        self._end()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class ServerConnection:
    """A connection. It serves one request and closes; after a HELLO it serves any number of requests, in order.

    A real master reads one frame and drops the rest, so only HELLO announces a kept connection.

    Args:
        trusted: whether the connection comes from a socket that only this user can reach. It then needs no TLS or token.
    """

    def __init__(
        self, server: Server, reader: Reader, writer: asyncio.StreamWriter, *, trusted: bool = False
    ) -> None:
        self._server = server
        self._loop = server.loop
        self._reader, self._writer = reader, writer
        self._encrypts = server.context is not None and not trusted
        self._may_ask = trusted or server.access.is_open
        self._keep = False
        self._held: tuple[ByteBudget, int] | None = None
        self._deadline: float | None = None
        """The deadline of the peer. The timer reads it when it fires, so moving the deadline is cheap."""
        self._timer: asyncio.TimerHandle | None = None
        self.idle_since: float | None = self._loop.time()
        """The time since when the connection is idle."""
        if self._encrypts:
            assert isinstance(writer.transport, asyncio.Transport)
            writer.transport.pause_reading()  # until TLS reads
        self._ended = self._loop.create_task(self._serve())

    def abort(self) -> None:
        """Close the connection at once. A request that has begun is carried out; its client may ask for the outcome."""
        self._writer.transport.abort()

    async def ended(self) -> None:
        """Wait until the connection has ended."""
        await asyncio.wait([self._ended])

    # ------------------------------------------------------------------ parts

    async def _serve(self) -> None:
        transport = self._writer.transport
        try:
            if self._encrypts:
                await self._encrypt()
            # A drained buffer then means that the system has taken everything: a peer that does not read costs no memory.
            self._writer.transport.set_write_buffer_limits(1)  # 0 is always full where TLS is used
            answered = 0
            while await self._exchange():
                answered += 1
                if answered % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            self._writer.close()
            if self._encrypts or self._writer.transport.get_write_buffer_size():
                self._expect(_SHUTDOWN_SECONDS)
                await self._writer.wait_closed()
        except PeerProtocolError as exc:
            # The peer does not speak Titan v1. Like a real master, close without a reply.
            log.info("closing a connection: %s", exc)
        except (OSError, EOFError):
            pass  # the peer went away, or was too slow
        finally:
            self._writer.transport.abort()
            transport.abort()
            if self._timer is not None:
                self._timer.cancel()
            self._let_go()
            self._server.leave(self)

    async def _encrypt(self) -> None:
        context, timeout = self._server.context, self._server.settings.frame_timeout_seconds
        assert context is not None
        try:
            await self._writer.start_tls(context, ssl_handshake_timeout=timeout)
        except (OSError, EOFError) as exc:  # ssl.SSLError is an OSError
            log.info("no TLS with a peer: %s", exc)
            raise

    async def _exchange(self) -> bool:
        """Serve one request. Returns whether another one may follow."""
        head = await self._read_head()
        if head is None:
            return False
        opcode, length = head
        self._expect(None)
        await self._hold(length, self._server.waiting if opcode in _HELD else self._server.budget)
        frame = Frame(opcode, await self._read_payload(length))
        self._expect(None)
        self._server.began()
        try:
            reply = self._begin(frame)
            if isinstance(reply, Frame):
                await self._hold(len(reply.payload), self._server.budget)
            elif not isinstance(reply, TakeOver):
                async with self._server.large if opcode in _LARGE else nullcontext():
                    reply = await (self._while_there(reply) if opcode in _HELD else reply)
                    del frame
                    await self._hold(len(reply.payload), self._server.budget)
                    if len(reply.payload) > LIMIT:
                        await asyncio.sleep(0)  # give other connections a turn
            if isinstance(reply, Frame):
                await self._send(reply)
        finally:
            self._server.ended()
        self._let_go()
        if isinstance(reply, TakeOver):
            await reply.serve(self._reader, self._writer)
            return False
        return self._keep

    async def _read_head(self) -> tuple[int, int] | None:
        """Opcode and length of the next frame; ``None`` at the end of the stream."""
        settings = self._server.settings
        self.idle_since = self._loop.time()
        self._expect(settings.idle_timeout_seconds if self._may_ask else settings.frame_timeout_seconds)
        head = await self._reader.read(HEADER_SIZE)
        self.idle_since = None
        if not head:
            return None
        if len(head) < HEADER_SIZE:
            self._expect(settings.frame_timeout_seconds)
            head += await self._reader.readexactly(HEADER_SIZE - len(head))
        return decode_header(head, MAX_PAYLOAD if self._may_ask else _STRANGER_PAYLOAD)

    async def _read_payload(self, length: int) -> bytes:
        # One deadline for the whole payload: a trickle of bytes must not renew it.
        self._expect(self._server.settings.frame_timeout_seconds + length / _SLOWEST)
        return await self._reader.readexactly(length)

    def _begin(self, frame: Frame) -> Frame | TakeOver | Awaitable[Frame]:
        """The reply, or an awaitable that makes it."""
        greets = frame.opcode == Opcode.HELLO
        if not self._may_ask:
            refusal = self._server.access.refusal(frame)
            if refusal is not None:
                # A client sends HELLO and its first request together, and reads two replies. It gets no third one.
                self._keep = greets and not self._keep
                return self._server.frame_of(refusal)
            self._may_ask = True
        self._server.let_in(self)
        if greets:
            self._keep = self._server.keeps
        return self._server.begin(frame)

    async def _while_there(self, reply: Awaitable[Frame]) -> Frame:
        made = asyncio.ensure_future(reply)
        either: list[asyncio.Future[Any]] = [made, self._reader.ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if made.done():
            return made.result()
        made.cancel()
        await asyncio.wait([made])
        raise EOFError

    async def _send(self, reply: Frame) -> None:
        """Write the reply at the peer's pace, which must reach the minimum rate."""
        size = len(reply.payload)
        if size <= LIMIT:
            self._writer.write(encode_frame(reply.opcode, reply.payload))
            if not self._writer.transport.get_write_buffer_size():
                return
        self._expect(self._server.settings.frame_timeout_seconds + size / _SLOWEST)
        if size > LIMIT:
            self._writer.write(encode_header(reply.opcode, size))
            view = memoryview(reply.payload)
            for start in range(0, size, LIMIT):
                self._writer.write(view[start : start + LIMIT])
                await self._writer.drain()
        await self._writer.drain()

    def _expect(self, seconds: float | None) -> None:
        """Close the connection unless the peer acts within ``seconds``; ``None``: it is the master's turn."""
        self._deadline = deadline = None if seconds is None else self._loop.time() + seconds
        if deadline is None or (self._timer is not None and self._timer.when() <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._deadline <= self._loop.time():
            self.abort()
        else:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)

    async def _hold(self, size: int, budget: ByteBudget) -> None:
        """Charge ``size`` bytes to the budget for this peer. Small amounts are free."""
        self._let_go()
        if size > LIMIT:
            await budget.take(size)
            self._held = budget, size

    def _let_go(self) -> None:
        if self._held is not None:
            budget, size = self._held
            self._held = None
            budget.give(size)


# ---------------------------------------------------------------------- all of them


class Server:
    """Listens, and passes every request to its handler.

    Args:
        keeps: whether a connection that begins with HELLO is kept for more requests.

    Raises:
        InvalidArgument: the TLS files of the settings cannot be used.
    """

    def __init__(self, settings: ClusterSettings, *, keeps: bool = True) -> None:
        self.settings = settings
        self.keeps = keeps
        self.loop = asyncio.get_running_loop()
        self.access = Access(settings.token)
        self.context: ssl.SSLContext | None = None if settings.tls is None else settings.tls.context()
        self.budget = ByteBudget(settings.max_buffered_bytes)
        """For requests that are read and carried out, and for replies."""
        self.waiting = ByteBudget(settings.max_buffered_bytes // 4)
        """For requests that wait for an event, so that they cannot exhaust the other budget."""
        self.large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self.answered: Counter[int] = Counter()
        """The number of requests by opcode; unknown opcodes count as -1."""
        self.requests = 0
        """The number of requests that are being answered."""
        self.dropped = 0
        """The number of peers that were dropped for lack of room."""
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._answer: Answer = _nobody
        self._sentence: Sentence = _unexpected
        self._capacity = connection_limit(settings)
        self._sparingly = Sparingly(log)
        self._closed = False
        self._listeners: list[asyncio.Server] = []
        self._connections: dict[ServerConnection, None] = {}
        self._strangers: dict[ServerConnection, None] = {}
        """The connections without an accepted request so far, oldest first."""

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    @property
    def buffered(self) -> int:
        """Bytes kept in memory for all peers together."""
        return self.budget.held + self.waiting.held

    # ------------------------------------------------------------------ requests

    def begin(self, frame: Frame) -> Frame | TakeOver | Awaitable[Frame]:
        """Carry out a request. Returns the reply, an awaitable of it, or the handler that takes the connection over."""
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
        opcode = exactly_once.inner_opcode(frame.payload) if frame.opcode == Opcode.ONCE else frame.opcode
        self.answered[opcode if opcode in _KNOWN else -1] += 1

    def _failed(self, opcode: int, exc: Exception) -> str:
        told = self._sentence(opcode, exc)
        if told is not None:
            return told
        log.error("opcode 0x%02X failed", opcode, exc_info=exc)
        return f"SERVER_ERROR: {exc}"

    @staticmethod
    def frame_of(reply: Reply) -> Frame:
        """The frame of a reply."""
        if isinstance(reply, bytes):
            return Frame(Opcode.ACK, reply)
        return Frame(reply_opcode(reply), reply.encode("utf-8", "replace"))

    def began(self) -> None:
        """Count a request as being answered, until ``ended``, when its reply is written."""
        self.requests += 1
        self._quiet.clear()

    def ended(self) -> None:
        self.requests -= 1
        if not self.requests:
            self._quiet.set()

    # ------------------------------------------------------------------ room

    def let_in(self, connection: ServerConnection) -> None:
        """The connection has made an accepted request, so it no longer counts as a stranger."""
        self._strangers.pop(connection, None)

    def leave(self, connection: ServerConnection) -> None:
        self._connections.pop(connection, None)
        self._strangers.pop(connection, None)

    def _connected(self, reader: Reader, writer: asyncio.StreamWriter, *, trusted: bool) -> None:
        # The port was closed in the turn in which this connection was accepted.
        if self._closed or not self._make_room():
            writer.transport.abort()
            return
        connection = ServerConnection(self, reader, writer, trusted=trusted)
        self._connections[connection] = self._strangers[connection] = None

    def _make_room(self) -> bool:
        """Whether one more connection fits. A stranger is closed for it first, then a connection that is long idle."""
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

    def _long_idle(self) -> ServerConnection | None:
        limit = self.loop.time() - _EVICTABLE_SECONDS
        idle = [(c.idle_since, c) for c in self._connections if c.idle_since is not None]
        since, longest = min(idle, key=lambda pair: pair[0], default=(limit + 1, None))
        return longest if since <= limit else None

    # ------------------------------------------------------------------ life

    async def listen(self) -> tuple[str, int]:
        """Open the port, and return the address for clients on this machine.

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
            OSError: the socket cannot be made.
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

    async def serve(self, answer: Answer, sentence: Sentence | None = None) -> None:
        """Begin to accept.

        Args:
            answer: carries out a request.
            sentence: the reply to a failed request, or ``None`` for an unexpected failure, which is logged.
        """
        self._answer, self._sentence = answer, sentence or _unexpected
        for listener in self._listeners:
            await listener.start_serving()
            for opened in listener.sockets:
                # asyncio's backlog is also the number of connections that it accepts in one turn.
                with socket.socket(fileno=os.dup(opened.fileno())) as same:
                    same.listen(_BACKLOG)

    def stop_accepting(self) -> None:
        """Close the port."""
        for listener in self._listeners:
            listener.close()

    async def close(self) -> None:
        """Let begun requests be answered, for a limited time. Then close every connection."""
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


def _nobody(_: Frame) -> Reply:
    return "SERVER_ERROR: this master has not begun"


def _unexpected(_: int, _exc: Exception) -> None:
    """Treats every failure as unexpected."""
