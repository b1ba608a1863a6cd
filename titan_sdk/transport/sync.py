"""Exchanges over a blocking socket. This layer knows frames only; the wire layer knows their meaning."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from titan_sdk.config import ClientConfig
from titan_sdk.errors import ConnectionLost, TitanError, transport_error
from titan_sdk.transport.addresses import open_tcp
from titan_sdk.transport.tls import REFUSED_CERTIFICATE, client_context, explain_tls, server_name
from titan_sdk.wire.frames import Frame, FrameDecoder, encode_frame

__all__ = ["Connection", "Greeting", "closed_early", "exchange", "is_quiet"]

_SMALLEST_READ = 4_096
_LARGEST_READ = 262_144
_ONE_SEGMENT = 1_400


Greeting = tuple[bytes, Callable[[Frame], None]]
"""A frame that opens a connection, and the check of its reply, which raises."""


def exchange(
    config: ClientConfig, operation: str, opcode: int, payload: bytes, greeting: Greeting | None = None
) -> Frame:
    """Connect, send one frame, return the reply, close. A real master serves one request per connection.

    Blocks for at most ``connect_timeout`` plus ``timeout`` without progress.

    Raises:
        PayloadTooLarge: before connecting.
        ConnectFailed, ConnectionLost, TimedOut: see their docstrings for what may have happened.
        PeerProtocolError: the peer does not speak Titan v1.
    """
    request = encode_frame(opcode, payload)
    connection = Connection(config, operation)
    try:
        if greeting is None:
            return connection.talk(operation, request)[0]
        hello, frame = connection.talk(operation, greeting[0] + request, replies=2)
        greeting[1](hello)
        return frame
    finally:
        connection.close()


class Connection:
    """One open socket to a master. For one thread at a time; unusable after an error."""

    def __init__(self, config: ClientConfig, operation: str) -> None:
        self._config = config
        try:
            opened = _open(config, operation)
        except TitanError:
            raise
        except (OSError, UnicodeError) as exc:
            raise transport_error(
                exc,
                address=config.address,
                operation=operation,
                connecting=True,
                seconds=config.connect_timeout,
            ) from exc
        opened.settimeout(config.timeout)
        self._socket = opened
        self._decoder = FrameDecoder(limit=None)
        self._undelayed = False

    def talk(self, operation: str, request: bytes, replies: int = 1) -> list[Frame]:
        """Send the request, and return so many replies."""
        config = self._config
        try:
            if config.tls is None:
                return self._talk(operation, request, replies)
            with explain_tls(config, operation, connecting=False):
                return self._talk(operation, request, replies)
        except TitanError:
            raise
        except (OSError, UnicodeError) as exc:
            raise transport_error(
                exc,
                address=config.address,
                operation=operation,
                connecting=False,
                seconds=config.timeout,
            ) from exc

    def _talk(self, operation: str, request: bytes, replies: int) -> list[Frame]:
        if len(request) > _ONE_SEGMENT and not self._undelayed and self._config.socket_path is None:
            # Otherwise the last part of a large request would wait for the peer's delayed acknowledgement.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._undelayed = True
        self._socket.sendall(request)
        return [self._read_frame(operation) for _ in range(replies)]

    def is_usable(self) -> bool:
        """Whether the peer has neither closed the connection nor sent unexpected data."""
        return is_quiet(self._socket)

    def close(self) -> None:
        """Close at once; idempotent."""
        self._socket.close()

    def _read_frame(self, operation: str) -> Frame:
        decoder = self._decoder
        frame = decoder.next_frame() if decoder.pending else None
        while frame is None:
            data = self._socket.recv(min(max(decoder.wanted, _SMALLEST_READ), _LARGEST_READ))
            if not data:
                raise closed_early(decoder, self._config, operation)
            frame = decoder.take(data)
        return frame


def is_quiet(opened: socket.socket) -> bool:
    """Whether the peer has neither closed nor sent anything that was not received."""
    pending = getattr(opened, "pending", None)  # over TLS: bytes that are decrypted already
    if pending is not None and pending():
        return False
    if not hasattr(select, "poll"):
        return not select.select([opened], [], [], 0)[0]
    poll = select.poll()  # select() refuses descriptors above 1,023
    poll.register(opened, select.POLLIN)
    return not poll.poll(0)


def _open(config: ClientConfig, operation: str) -> socket.socket:
    if config.socket_path is not None:
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            local.settimeout(config.connect_timeout)
            local.connect(config.socket_path)
        except BaseException:
            local.close()
            raise
        return local
    context = client_context(config.tls) if config.tls is not None else None
    plain = open_tcp(config.host, config.port, config.connect_timeout)
    if context is None:
        return plain
    try:
        with explain_tls(config, operation, connecting=True):
            return context.wrap_socket(plain, server_hostname=server_name(config))
    except BaseException:
        plain.close()
        raise


def closed_early(decoder: FrameDecoder, config: ClientConfig, operation: str) -> ConnectionLost:
    """The sentence for a peer that closed before its reply was complete; shared by both transports."""
    got = f"after {decoder.pending} bytes of it" if decoder.pending else "without one"
    return ConnectionLost(
        f"{operation}: {config.address} closed the connection before its reply, {got}. "
        "A Titan master does this on a payload over 10 MiB and on a peer that does not speak Titan v1"
        + (f"; {REFUSED_CERTIFICATE}" if config.tls is not None else ", one with TLS on a client without it"),
        address=config.address,
        operation=operation,
    )
