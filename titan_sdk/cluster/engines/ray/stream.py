"""Messages between front, dispatcher and nodes: a JSON object, a line feed, and bytes, in a Titan frame."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from titan_sdk.wire.frames import Frame, FrameDecoder, encode_frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["Stream", "pack", "unpack"]

_PIECE = 256 * 1024
_ALIVE = {
    socket.TCP_NODELAY: 1,
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 4,
    socket.TCP_USER_TIMEOUT: 30_000,
}
"""TCP keep-alive: a peer whose machine is gone is noticed within half a minute."""


def pack(head: dict[str, Any], data: bytes = b"") -> bytes:
    """The payload of a message."""
    return json.dumps(head, separators=(",", ":")).encode("ascii") + b"\n" + data


def unpack(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """The parts of a payload.

    Raises:
        ValueError: it is not such a payload.
    """
    text, _, data = payload.partition(b"\n")
    head = json.loads(text)
    if not isinstance(head, dict):
        raise ValueError("not an object")
    return head, data


class Stream:
    """Messages in both directions over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        peer = writer.get_extra_info("socket")
        for option, value in _ALIVE.items():
            peer.setsockopt(socket.IPPROTO_TCP, option, value)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._decoder = FrameDecoder(limit=None)

    def send(self, word: str, data: bytes = b"", **head: Any) -> None:
        """Send a message. It is lost if the connection breaks, which the reader notices."""
        self.writer.write(encode_frame(Opcode.ENGINE, pack({"word": word, **head}, data), limit=None))

    async def receive(self) -> tuple[str, dict[str, Any]]:
        """Wait for the next message: its word and fields. ``data`` are its bytes, if there are any.

        Raises:
            ConnectionError: the connection has ended.
            ValueError, PeerProtocolError: the peer does not speak this protocol.
        """
        frame = await self.receive_frame()
        if frame.opcode != Opcode.ENGINE:
            raise ValueError(frame.text[:300])
        head, data = unpack(frame.payload)
        return str(head.pop("word", "")), head | ({"data": data} if data else {})

    async def receive_frame(self) -> Frame:
        """Wait for the next frame."""
        while (frame := self._decoder.next_frame()) is None:
            piece = await self.reader.read(_PIECE)
            if not piece:
                raise ConnectionError("the other side closed the connection")
            self._decoder.feed(piece)
        return frame

    async def drain(self) -> None:
        """Wait until most of the sent data is on its way."""
        await self.writer.drain()

    def close(self) -> None:
        """Close the connection after the sent data."""
        self.writer.close()
