"""Exchanges over asyncio streams, with the contract of ``sync``. Every operation may be cancelled."""

from __future__ import annotations

import asyncio

from titan_sdk.config import ClientConfig
from titan_sdk.errors import map_os_errors
from titan_sdk.transport.sync import Greeting, closed_early
from titan_sdk.transport.tls import client_context, explain_tls, server_name
from titan_sdk.wire.frames import Frame, FrameDecoder, encode_frame

__all__ = ["AsyncConnection", "exchange"]

_READ_SIZE = 262_144
_SHUTDOWN_SECONDS = 1.0


async def exchange(
    config: ClientConfig, operation: str, opcode: int, payload: bytes, greeting: Greeting | None = None
) -> Frame:
    """Connect, send one frame, return the reply, close. Cancelling it closes the connection at once.

    Raises:
        PayloadTooLarge: before connecting.
        ConnectFailed, ConnectionLost, TimedOut, PeerProtocolError: as ``sync.exchange``.
    """
    request = encode_frame(opcode, payload)
    connection = await AsyncConnection.open(config, operation)
    try:
        if greeting is None:
            (frame,) = await connection.talk(operation, request)
        else:
            hello, frame = await connection.talk(operation, greeting[0] + request, replies=2)
            greeting[1](hello)
    except BaseException:
        connection.abort()
        raise
    await connection.close()
    return frame


class AsyncConnection:
    """One open stream to a master. For one task at a time; unusable after an error or a cancellation."""

    def __init__(
        self, config: ClientConfig, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._config = config
        self._reader = reader
        self._writer = writer
        self._decoder = FrameDecoder(limit=None)

    @classmethod
    async def open(cls, config: ClientConfig, operation: str) -> AsyncConnection:
        """Connect."""
        seconds = config.connect_timeout
        with map_os_errors(address=config.address, operation=operation, connecting=True, seconds=seconds):
            async with asyncio.timeout(seconds):
                reader, writer = await _open(config, operation)
        return cls(config, reader, writer)

    async def talk(self, operation: str, request: bytes, replies: int = 1) -> list[Frame]:
        """Send the request, and return so many replies."""
        seconds = self._config.timeout
        with (
            map_os_errors(
                address=self._config.address, operation=operation, connecting=False, seconds=seconds
            ),
            explain_tls(self._config, operation, connecting=False),
        ):
            self._writer.write(request)
            async with asyncio.timeout(seconds):
                await self._writer.drain()
            return [await self._read_frame(operation) for _ in range(replies)]

    def is_usable(self) -> bool:
        """Whether the peer has not closed the connection."""
        return not (self._reader.at_eof() or self._writer.is_closing())

    def abort(self) -> None:
        """Close at once, without waiting for the loop."""
        self._writer.transport.abort()

    def begin_close(self) -> None:
        """Start to close. The loop does the rest."""
        if self._writer.transport.get_write_buffer_size():
            self.abort()  # a peer that does not read would keep it open for ever
        else:
            self._writer.close()

    async def close(self) -> None:
        """Close and wait until it is closed, for any behaviour of the peer."""
        self.begin_close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    async def _read_frame(self, operation: str) -> Frame:
        decoder = self._decoder
        frame = decoder.next_frame() if decoder.pending else None
        while frame is None:
            async with asyncio.timeout(self._config.timeout):
                data = await self._reader.read(_READ_SIZE)
            if not data:
                raise closed_early(decoder, self._config, operation)
            frame = decoder.take(data)
        return frame


async def _open(config: ClientConfig, operation: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if config.socket_path is not None:
        return await asyncio.open_unix_connection(config.socket_path, limit=_READ_SIZE)
    if config.tls is None:
        return await asyncio.open_connection(config.host, config.port, limit=_READ_SIZE)
    # In a thread: it reads files, the system's certificates among them.
    context = await asyncio.to_thread(client_context, config.tls)
    with explain_tls(config, operation, connecting=True):
        return await asyncio.open_connection(
            config.host,
            config.port,
            limit=_READ_SIZE,
            ssl=context,
            server_hostname=server_name(config),
            ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        )
