"""One exchange over asyncio streams; the same contract as ``sync.exchange``, cancellation-safe."""

from __future__ import annotations

import asyncio
import contextlib

from titan_sdk.config import ClientConfig
from titan_sdk.errors import map_os_errors
from titan_sdk.transport.sync import closed_early
from titan_sdk.wire.frames import Frame, FrameDecoder, encode_frame

__all__ = ["exchange"]

_READ_SIZE = 262_144


async def exchange(config: ClientConfig, operation: str, opcode: int, payload: bytes) -> Frame:
    """Connect, send one frame, return the reply, close. Cancelling it closes the connection at once.

    Raises:
        PayloadTooLarge: before connecting.
        ConnectFailed, ConnectionLost, TimedOut, PeerProtocolError: as ``sync.exchange``.
    """
    request = encode_frame(opcode, payload)
    address = config.address
    with map_os_errors(address=address, operation=operation, connecting=True, seconds=config.connect_timeout):
        async with asyncio.timeout(config.connect_timeout):
            reader, writer = await asyncio.open_connection(config.host, config.port, limit=_READ_SIZE)
    try:
        with map_os_errors(address=address, operation=operation, connecting=False, seconds=config.timeout):
            writer.write(request)
            async with asyncio.timeout(config.timeout):
                await writer.drain()
            return await _read_frame(reader, config, operation)
    finally:
        writer.close()
        # The reply is complete or already an error; how the peer takes the close changes neither.
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _read_frame(reader: asyncio.StreamReader, config: ClientConfig, operation: str) -> Frame:
    decoder = FrameDecoder(limit=None)
    while (frame := decoder.next_frame()) is None:
        async with asyncio.timeout(config.timeout):
            data = await reader.read(min(max(decoder.wanted, 1), _READ_SIZE))
        if not data:
            raise closed_early(decoder, config.address, operation)
        decoder.feed(data)
    return frame
