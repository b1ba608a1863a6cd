"""One peer of the master: its bytes, its patience, its share of memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.frames import MAX_PAYLOAD, Frame, FrameDecoder
from titan_sdk.wire.opcodes import Opcode

if TYPE_CHECKING:
    from titan_sdk.cluster.server import Server

__all__ = ["Connection"]

log = logging.getLogger(__name__)

_SLOWEST = 64 * 1024
"""Bytes per second that a peer must send or take on average, beyond the patience for every frame."""
_STRANGER_PAYLOAD = 64 * 1024
"""The largest frame of a peer that has not shown the token yet."""
_SLICE = 64 * 1024
_SHUTDOWN_SECONDS = 2.0
_SMALL = 64 * 1024
"""The largest request that is begun without a task, and so without waiting for room."""
_AT_ONCE = 32
"""Requests of one peer that are answered in one turn of the loop."""


class Connection(asyncio.Protocol):
    """One request, one reply, then closed; after a HELLO, any number of requests in turn.

    A real master reads one frame and drops the rest; keeping the connection is announced by HELLO only.

    Args:
        trusted: it comes from a place that only this user can reach, so neither TLS nor token is asked for.
    """

    def __init__(self, server: Server, *, trusted: bool = False) -> None:
        self._server = server
        self._admitted = trusted or server.gate.is_open
        self._handshake: asyncio.Task[None] | None = None
        self._secured = server.context is None or trusted
        self._decoder = FrameDecoder(limit=MAX_PAYLOAD if self._admitted else _STRANGER_PAYLOAD)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._awaited: asyncio.Future[None] | None = None
        """The request that was begun without a task and is not answered yet."""
        self._waits_only = False
        self._sending = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        """When to give the peer up. Moved on with every request; the timer looks at it when it fires."""
        self._begun: float | None = None
        """When the first byte of an unfinished frame came."""
        self._writable = asyncio.Event()
        self._writable.set()
        self._keep = False
        self._closing = False
        self.held = 0
        """Bytes that the master keeps in memory for this peer."""
        self.dropped = False
        """Whether it was given up for lack of room."""
        self.since = server.loop.time()
        """Since when nothing but the peer itself is waited for."""

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests."""
        return not self._is_busy and not self._decoder.pending and not self._closing

    @property
    def is_slow(self) -> bool:
        """Whether bytes are kept for it that only it can set free."""
        # Not while a request is carried out: then it is the peer that waits.
        return self.held > 0 and (not self._is_busy or (self._sending and not self._writable.is_set()))

    @property
    def _is_busy(self) -> bool:
        return self._task is not None or self._awaited is not None

    # ------------------------------------------------------------------ events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._server.admit(self, stranger=not self._admitted):
            transport.abort()
            return
        if self._secured:
            self._await_more()
        else:
            transport.pause_reading()
            self._handshake = self._server.loop.create_task(self._encrypt(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # a peer that went away is no news
        self._closing = True
        self._writable.set()
        self._server.leave(self)
        self._forget_timer()
        if self._handshake is not None:
            self._handshake.cancel()
        if self._task is None:
            self._hold(0)
        elif self._waits_only:
            # Here, as a task that is cancelled before its first step never comes to its own end.
            self._hold(0)
            self._task.cancel()
        # Any other request that has begun is carried out: its client may come back and ask for the outcome.

    def pause_writing(self) -> None:
        self._writable.clear()
        self.since = self._server.loop.time()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._secured and self._task is None and self._awaited is None:
            self._next(data)
            return
        self._decoder.feed(data)
        if self._secured and self._transport is not None:
            # Pipelined bytes wait in the kernel while the current request is answered.
            self._transport.pause_reading()
        # Not secured: decrypted already, but the transport that encrypts the answer is not at hand before the next turn.

    def abort(self) -> None:
        """Drop the peer at once."""
        self._closing = True
        self._writable.set()
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ parts

    async def _encrypt(self, plain: asyncio.Transport) -> None:
        context = self._server.context
        assert context is not None
        try:
            secured = await self._server.loop.start_tls(
                plain,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._server.settings.frame_timeout_seconds,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
        except (OSError, EOFError) as exc:  # ssl.SSLError is an OSError
            log.info("no TLS with a peer: %s", exc)
            plain.abort()
            return
        finally:
            self._handshake = None
        if secured is None or self._closing:
            return
        self._transport, self._secured = secured, True
        self._next()

    def _next(self, data: bytes = b"") -> None:
        """Answer what there is, and what has come now."""
        for _ in range(_AT_ONCE):
            try:
                frame = self._decoder.take(data) if data else self._decoder.next_frame()
                data = b""
            except PeerProtocolError as exc:
                # As a real master: no reply, closed. The peer speaks something else.
                log.info("closing a connection: %s", exc)
                self.abort() if self._decoder.pending else self._close()
                return
            if frame is None:
                self._await_more()
                return
            self._begun = self._deadline = None
            self._carry_out(frame)
            if self._is_busy or self._closing:
                return
        # Somebody sends many requests ahead; others have their turn before these go on.
        self._server.loop.call_soon(self._resume)

    def _resume(self) -> None:
        if not self._is_busy and not self._closing:
            self._next()

    def _carry_out(self, frame: Frame) -> None:
        """At once where it can be, so that a small request takes neither a task nor another turn of the loop."""
        answered: bytes | Awaitable[str | bytes] | None = None
        is_small = len(frame.payload) <= _SMALL and self._writable.is_set()
        if self._admitted and is_small and frame.opcode != Opcode.HELLO:
            answered = self._server.begin(frame)
            if isinstance(answered, bytes):
                self._reply(answered)
                return
            if isinstance(answered, asyncio.Future):
                self._awaited = self._server.outstanding()
                self._hold(len(frame.payload) + self._decoder.pending)
                answered.add_done_callback(self._on_answered)
                return
        self._waits_only = frame.opcode == Opcode.WAIT
        self._task = self._server.spawn(self._serve(frame, answered))
        if asyncio.iscoroutine(answered):
            # A task that is cancelled before its first step never comes to it.
            self._task.add_done_callback(lambda _, begun=answered: begun.close())  # type: ignore[misc]

    def _on_answered(self, answered: asyncio.Future[str | bytes]) -> None:
        self._reply(self._server.encode(answered.result()))

    def _reply(self, reply: bytes) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            self._server.over(awaited)
        if self._closing:
            self._hold(0)
            return
        assert self._transport is not None
        self._transport.write(reply)
        if not self._keep:
            self._close()
            return
        if awaited is not None:
            self._transport.resume_reading()
            self._next()

    def _await_more(self) -> None:
        """Patience is counted from a frame's first byte: a trickle of bytes does not renew it."""
        now, settings, pending = self._server.loop.time(), self._server.settings, self._decoder.pending
        if not pending:
            self._begun, self.since = None, now
            if self.held:
                self._hold(0)
            patience = settings.idle_timeout_seconds if self._admitted else settings.frame_timeout_seconds
            self._expect_until(now + patience)
            return
        if self._begun is None:
            self._begun = self.since = now
        size = pending + self._decoder.wanted
        self._expect_until(max(now, self._begun + settings.frame_timeout_seconds + size / _SLOWEST))
        self._hold(pending)

    async def _serve(self, frame: Frame, begun: bytes | Awaitable[str | bytes] | None) -> None:
        self._hold(len(frame.payload) + self._decoder.pending)
        try:
            async with self._server.room(frame.opcode) as in_line:
                reply = await self._answer(frame, begun)
                del frame
                if self._closing:
                    return
                self._hold(len(reply) + self._decoder.pending)
                if in_line and len(reply) > _SLICE:
                    await asyncio.sleep(0)  # before the next one in line is made, others have a turn
            self._sending = True
            await self._send(reply)
        finally:
            self._task, self._sending = None, False
            if self._closing:
                self._hold(0)
        transport = self._transport
        if self._is_closing() or transport is None:
            return
        if self._keep:
            transport.resume_reading()
            self._next()
        else:
            self._close()

    async def _answer(self, frame: Frame, answered: bytes | Awaitable[str | bytes] | None) -> bytes:
        greets = frame.opcode == Opcode.HELLO
        if not self._admitted:
            refusal = self._server.gate.refusal(frame)
            if refusal is not None:
                # A client sends HELLO and its first request together and reads two replies; it gets no third.
                self._keep = greets and not self._keep
                return self._server.encode(refusal)
            self._admitted = True
            self._server.let_in(self)
            self._decoder.limit = MAX_PAYLOAD
        if greets:
            self._keep = True
        if answered is None:
            answered = self._server.begin(frame)
        return answered if isinstance(answered, bytes) else await self._server.in_time(frame, answered)

    async def _send(self, reply: bytes) -> None:
        """Hand the reply over at the peer's pace, within reason."""
        assert self._transport is not None
        if len(reply) <= _SLICE:
            self._transport.write(reply)
        else:
            view = memoryview(reply)
            for start in range(0, len(reply), _SLICE):
                if not self._writable.is_set():
                    self._expect_once(len(reply))
                    await self._writable.wait()
                if self._closing or self._transport.is_closing():
                    return
                self._transport.write(view[start : start + _SLICE])
        if not self._writable.is_set():
            self._expect_once(len(reply))
            await self._writable.wait()
        self._deadline = None

    def _close(self) -> None:
        """Send what is written, then close; a peer that does not read is dropped after a while."""
        self._closing = True
        assert self._transport is not None
        self._transport.close()
        self._hold(0)
        self._expect(self._server.settings.frame_timeout_seconds)

    def _is_closing(self) -> bool:
        return self._closing

    def _hold(self, size: int) -> None:
        self._server.charge(self, size)

    def _expect_once(self, size: int) -> None:
        if self._deadline is None:
            self._expect(self._server.settings.frame_timeout_seconds + size / _SLOWEST)

    def _expect(self, seconds: float) -> None:
        self._expect_until(self._server.loop.time() + seconds)

    def _expect_until(self, deadline: float) -> None:
        """When to give the peer up; costs nothing where a timer runs that fires earlier."""
        self._deadline = deadline
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._server.loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline is None:
            return  # a request is being answered; what waits for the peer next sets the timer again
        if self._deadline <= self._server.loop.time():
            self.abort()
        else:
            self._timer = self._server.loop.call_at(self._deadline, self._on_timer)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
