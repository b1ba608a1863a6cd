"""Titan v1 frames: an 8-byte header and a text payload (protocol section 1).

Bytes to values, without I/O: the owner of a socket feeds the decoder. Client and bundled master share this code.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from titan_sdk.errors import PayloadTooLarge, PeerProtocolError

__all__ = [
    "HEADER_SIZE",
    "MAX_PAYLOAD",
    "PROTOCOL_VERSION",
    "Frame",
    "FrameDecoder",
    "decode_header",
    "encode_frame",
    "encode_header",
]

PROTOCOL_VERSION = 1
HEADER_SIZE = 8
MAX_PAYLOAD = 10_485_760
"""The largest payload that a Titan process reads: one byte more resets the connection (section 1, fact 3)."""

_HEADER = struct.Struct(">BBBBi")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. ``payload`` is UTF-8 text by definition of the protocol."""

    opcode: int
    payload: bytes

    @property
    def text(self) -> str:
        """The payload as text; malformed UTF-8 becomes U+FFFD, as a real master does."""
        return self.payload.decode("utf-8", errors="replace")

    def __str__(self) -> str:
        # A HELLO may carry a token, which must not appear in a log.
        shown = b"..." if self.opcode == 0x40 else self.payload[:60]
        tail = f"... {len(self.payload)} bytes" if len(self.payload) > len(shown) else ""
        return f"<0x{self.opcode:02X} {shown!r}{tail}>"


def encode_frame(opcode: int, payload: bytes, *, limit: int | None = MAX_PAYLOAD) -> bytes:
    """Header and payload in one buffer.

    Args:
        limit: the largest payload; ``None`` for a server's reply, which may be larger (section 1, fact 3).

    Raises:
        PayloadTooLarge: the payload is over the limit.
    """
    if limit is not None and len(payload) > limit:
        raise PayloadTooLarge(f"opcode 0x{opcode:02X}", len(payload), limit)
    return encode_header(opcode, len(payload)) + payload


def encode_header(opcode: int, length: int) -> bytes:
    """The header of a payload of ``length`` bytes, for a sender that writes the two separately."""
    return _HEADER.pack(PROTOCOL_VERSION, opcode, 0, 0, length)


def decode_header(head: bytes, limit: int | None = MAX_PAYLOAD) -> tuple[int, int]:
    """The opcode and the length of the payload.

    Raises:
        PeerProtocolError: the header is not Titan v1, or announces more than ``limit``.
    """
    version, opcode, _flags, _spare, length = _HEADER.unpack(head)
    if version != PROTOCOL_VERSION:
        raise PeerProtocolError(
            f"the peer does not speak Titan v1: its first bytes are {head!r}{_guess(head)}"
        )
    if length < 0:
        raise PeerProtocolError(f"the peer announced a payload of {length} bytes")
    if limit is not None and length > limit:
        raise PeerProtocolError(f"the peer announced {length:,} bytes; the limit is {limit:,}")
    return opcode, length


class FrameDecoder:
    """Cuts a byte stream into frames. The stream may arrive in chunks of any size.

    Args:
        limit: the largest payload; ``None`` for a client, because replies have no limit.
    """

    def __init__(self, *, limit: int | None = MAX_PAYLOAD) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._need: int | None = None
        self._opcode = 0

    @property
    def pending(self) -> int:
        """The number of bytes that do not yet make a frame."""
        return len(self._buffer) + (HEADER_SIZE if self._need is not None else 0)

    @property
    def wanted(self) -> int:
        """The bytes that the current header or payload still lacks: the size of the next read."""
        whole = HEADER_SIZE if self._need is None else self._need
        return max(whole - len(self._buffer), 0)

    def feed(self, data: bytes) -> None:
        """Store bytes. ``next_frame`` parses them."""
        self._buffer += data

    def take(self, data: bytes) -> Frame | None:
        """``feed`` and ``next_frame`` in one. Data that is exactly one frame, as most small frames are, is not copied."""
        if len(data) >= HEADER_SIZE and not self._buffer and self._need is None:
            version, opcode, _flags, _spare, length = _HEADER.unpack_from(data)
            fits = self.limit is None or length <= self.limit
            if version == PROTOCOL_VERSION and length == len(data) - HEADER_SIZE and fits:
                return Frame(opcode, data[HEADER_SIZE:])
        self.feed(data)
        return self.next_frame()

    def next_frame(self) -> Frame | None:
        """The next complete frame, or ``None`` when more bytes are needed.

        Raises:
            PeerProtocolError: the header is not Titan v1. The stream cannot be used any further.
        """
        if self._need is None:
            if len(self._buffer) < HEADER_SIZE:
                return None
            self._read_header()
        assert self._need is not None
        if len(self._buffer) < self._need:
            return None
        payload = bytes(self._buffer[: self._need])
        del self._buffer[: self._need]
        self._need = None
        return Frame(self._opcode, payload)

    def _read_header(self) -> None:
        self._opcode, self._need = decode_header(bytes(self._buffer[:HEADER_SIZE]), self.limit)
        del self._buffer[:HEADER_SIZE]


def _guess(head: bytes) -> str:
    """Names the server behind a wrong port by its first bytes, so that the message can name the mistake."""
    if head.startswith(b"HTTP/"):
        return " (an HTTP server; Titan's dashboard is HTTP, its master is a different port, 9090 by default)"
    if head[:1] in {b"+", b"-", b"$", b"*", b":"}:
        return " (a Redis-like server; TitanStore's own port is not the master's, which is 9090 by default)"
    if head[:1] in {b"\x15", b"\x16"}:
        return " (a TLS server; connect with tls)"
    if head.startswith(b"SSH-"):
        return " (an SSH server)"
    return ""
