"""One frame in, one frame out, and the connection is closed (section 1). No limit of any kind on who may wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.frames import Frame, FrameDecoder, encode_frame
from titan_sdk.wire.opcodes import reply_opcode

__all__ = ["StrictServer"]

log = logging.getLogger(__name__)

Answer = Callable[[int, str], Awaitable[str]]


class StrictServer:
    """Listens, and hands every request to ``answer``."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._listener: asyncio.Server | None = None
        self.closed = False
        self.connections: set[_Connection] = set()
        self.requests: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Serve; the address.

        Raises:
            OSError: the port is taken or not allowed.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), host, port, backlog=512)
        address = self._listener.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    async def answer(self, frame: Frame) -> bytes:
        """The encoded reply."""
        try:
            text = await self._answer(frame.opcode, frame.text)
        except Exception as exc:
            log.exception("opcode 0x%02X failed", frame.opcode)
            text = f"SERVER_ERROR: {exc}"
        return encode_frame(reply_opcode(text), text.encode("utf-8", "replace"), limit=None)

    async def close(self) -> None:
        """Accept nothing more, answer nothing more."""
        self.closed = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.abort()
        for request in list(self.requests):
            request.cancel()
        await asyncio.gather(*self.requests, return_exceptions=True)
        if self._listener is not None:
            await self._listener.wait_closed()


class _Connection(asyncio.Protocol):
    def __init__(self, server: StrictServer) -> None:
        self._server = server
        self._decoder = FrameDecoder()
        self._transport: asyncio.Transport | None = None
        self._asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._server.closed:  # it was accepted in the turn in which the listener was closed
            transport.abort()
            return
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # the request, if there was one, is carried out all the same
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._asked:
            return  # a second request is dropped
        self._decoder.feed(data)
        try:
            frame = self._decoder.next_frame()
        except PeerProtocolError as exc:
            log.info("closing a connection: %s", exc)
            self._asked = True
            # With bytes unread, what a real master's close gives the peer is a reset.
            self.abort() if self._decoder.pending else self._close()
            return
        if frame is not None:
            self._asked = True
            task = asyncio.get_running_loop().create_task(self._serve(frame))
            self._server.requests.add(task)
            task.add_done_callback(self._server.requests.discard)

    def abort(self) -> None:
        """Drop the peer."""
        if self._transport is not None:
            self._transport.abort()

    async def _serve(self, frame: Frame) -> None:
        reply = await self._server.answer(frame)
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(reply)
        self._close()

    def _close(self) -> None:
        assert self._transport is not None
        self._transport.close()
