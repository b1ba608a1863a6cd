"""The TCP shell: frames in, replies out. Nothing here knows what a job is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine

from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.frames import Frame, FrameDecoder, encode_frame
from titan_sdk.wire.opcodes import Opcode, reply_opcode

__all__ = ["Answer", "Server"]

log = logging.getLogger(__name__)

Answer = Callable[[Frame], Awaitable[str | bytes]]
"""A reply: text, whose first word decides the opcode (section 1.1), or bytes, which are always an ACK."""

_SEND_SECONDS = 60.0
_FINISH_SECONDS = 2.0


class _Connection(asyncio.Protocol):
    """One peer: one request, one reply, then closed; after a HELLO, any number of requests in turn.

    A real master reads one frame and drops the rest; keeping the connection is announced by HELLO only.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._decoder = FrameDecoder()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keep = False
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._server.admit(self):
            transport.abort()
            return
        self._expect(self._server.settings.idle_timeout_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # a peer that went away is no news
        self._closing = True
        self._server.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        # A request that has begun is carried out: its client may come back and ask for the outcome.

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._decoder.feed(data)
        if self._task is None:
            self._next()
        else:
            # Pipelined bytes wait in the kernel while the current request is answered.
            self._pause()

    def abort(self) -> None:
        """Drop the peer at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ parts

    def _next(self) -> None:
        try:
            frame = self._decoder.next_frame()
        except PeerProtocolError as exc:
            # As a real master: no reply, closed. The peer speaks something else.
            log.info("closing a connection: %s", exc)
            self.abort() if self._decoder.pending else self._close()
            return
        settings = self._server.settings
        if frame is None:
            waiting = self._decoder.pending
            self._expect(settings.frame_timeout_seconds if waiting else settings.idle_timeout_seconds)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._task = self._server.spawn(self._serve(frame))

    async def _serve(self, frame: Frame) -> None:
        reply = await self._server.answer(frame)
        self._task = None
        if self._closing or self._transport is None:
            return
        self._keep = self._keep or frame.opcode == Opcode.HELLO
        self._transport.write(reply)
        if self._keep:
            self._resume()
            self._next()
        else:
            self._close()

    def _close(self) -> None:
        """Send what is written, then close; a peer that does not read is dropped after a while."""
        self._closing = True
        assert self._transport is not None
        self._transport.close()
        self._expect(_SEND_SECONDS)

    def _expect(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._server.loop.call_later(seconds, self.abort)

    def _pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()


class Server:
    """Listens, and hands every request to ``answer``."""

    def __init__(self, settings: ClusterSettings, answer: Answer) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self._answer = answer
        self._listener: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._requests: set[asyncio.Task[None]] = set()

    async def answer(self, frame: Frame) -> bytes:
        """The encoded reply to a request."""
        try:
            reply = await self._answer(frame)
        except Exception as exc:
            log.exception("opcode 0x%02X failed", frame.opcode)
            reply = f"SERVER_ERROR: {exc}"
        if isinstance(reply, bytes):
            return encode_frame(Opcode.ACK, reply, limit=None)
        return encode_frame(reply_opcode(reply), reply.encode("utf-8", "replace"), limit=None)

    def spawn(self, request: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Carry out a request whatever becomes of its connection."""
        task = self.loop.create_task(request)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return task

    def admit(self, connection: _Connection) -> bool:
        """Whether there is room for one more."""
        if len(self._connections) >= self.settings.max_connections:
            log.warning("refusing a connection: %d are open", len(self._connections))
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    async def listen(self) -> tuple[str, int]:
        """Open the port; the address that clients on this machine use.

        Raises:
            OSError: the port is taken or not allowed.
        """
        self._listener = await self.loop.create_server(
            lambda: _Connection(self),
            self.settings.host,
            self.settings.port,
            backlog=512,
            start_serving=False,
        )
        host, port = self._listener.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def serve(self) -> None:
        """Begin to accept."""
        assert self._listener is not None
        await self._listener.start_serving()

    async def stop_accepting(self) -> None:
        """Close the port."""
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()

    async def finish(self) -> None:
        """Let requests that have begun be answered, within reason."""
        if self._requests:
            await asyncio.wait(self._requests, timeout=_FINISH_SECONDS)

    def drop_all(self) -> None:
        """Close every connection."""
        for connection in list(self._connections):
            connection.abort()
