"""One exchange over a blocking socket. Bytes only: what they mean is the wire layer's business."""

from __future__ import annotations

import socket

from titan_sdk.config import ClientConfig
from titan_sdk.errors import ConnectionLost, map_os_errors
from titan_sdk.wire.frames import Frame, FrameDecoder, encode_frame

__all__ = ["exchange"]

_READ_SIZE = 262_144


def exchange(config: ClientConfig, operation: str, opcode: int, payload: bytes) -> Frame:
    """Connect, send one frame, return the reply, close: a real master serves one request per connection.

    Blocks for at most ``connect_timeout`` plus ``timeout`` without progress.

    Raises:
        PayloadTooLarge: before connecting.
        ConnectFailed, ConnectionLost, TimedOut: see their docstrings for what may have happened.
        PeerProtocolError: the peer does not speak Titan v1.
    """
    request = encode_frame(opcode, payload)
    address = config.address
    with map_os_errors(address=address, operation=operation, connecting=True, seconds=config.connect_timeout):
        connection = socket.create_connection((config.host, config.port), config.connect_timeout)
    exchanging = map_os_errors(address=address, operation=operation, connecting=False, seconds=config.timeout)
    with connection, exchanging:
        connection.settimeout(config.timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        return _read_frame(connection, address, operation)


def _read_frame(connection: socket.socket, address: str, operation: str) -> Frame:
    decoder = FrameDecoder(limit=None)
    while (frame := decoder.next_frame()) is None:
        data = connection.recv(min(max(decoder.wanted, 1), _READ_SIZE))
        if not data:
            raise closed_early(decoder, address, operation)
        decoder.feed(data)
    return frame


def closed_early(decoder: FrameDecoder, address: str, operation: str) -> ConnectionLost:
    """The sentence for a peer that closed before its reply was complete; shared by both transports."""
    got = f"after {decoder.pending} bytes of it" if decoder.pending else "without one"
    return ConnectionLost(
        f"{operation}: {address} closed the connection before its reply, {got}; the request may have taken effect. "
        "A Titan master does this on a payload over 10 MiB and on a peer that does not speak Titan v1",
        address=address,
        operation=operation,
    )
