"""A peer that does to each connection what its script says: the misbehaviour no real master can be made to show."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from titan_sdk.wire.frames import FrameDecoder, encode_frame
from titan_sdk.wire.opcodes import reply_opcode

Act = Callable[[socket.socket, "ScriptedPeer"], None]


class ScriptedPeer:
    """Serves one connection per act, in order, then stops listening. Records the requests it read."""

    def __init__(self, *acts: Act) -> None:
        self._acts: Sequence[Act] = acts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.requests: list[tuple[int, str]] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> ScriptedPeer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # shutdown() wakes an accept() that nobody will answer any more.
        self._listener.close() if not self._thread.is_alive() else self._wake()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()

    def _wake(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()

    def _serve(self) -> None:
        with self._listener:
            for act in self._acts:
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(10)
                    act(connection, self)

    def read_request(self, connection: socket.socket) -> tuple[int, str]:
        """The next whole request on this connection, recorded."""
        decoder = FrameDecoder()
        while (frame := decoder.next_frame()) is None:
            data = connection.recv(65536)
            if not data:
                raise AssertionError("the client closed before its request was complete")
            decoder.feed(data)
        self.requests.append((frame.opcode, frame.text))
        return self.requests[-1]


def reply(text: str) -> Act:
    """Read a request and answer it as a master would."""

    def act(connection: socket.socket, peer: ScriptedPeer) -> None:
        peer.read_request(connection)
        connection.sendall(encode_frame(reply_opcode(text), text.encode()))

    return act


def reply_bytewise(text: str) -> Act:
    """As ``reply``, one byte at a time."""

    def act(connection: socket.socket, peer: ScriptedPeer) -> None:
        peer.read_request(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in encode_frame(reply_opcode(text), text.encode()):
            connection.sendall(bytes([byte]))

    return act


def truncate(text: str, keep: int) -> Act:
    """Read the request, send only the first ``keep`` bytes of the reply frame, close."""

    def act(connection: socket.socket, peer: ScriptedPeer) -> None:
        peer.read_request(connection)
        connection.sendall(encode_frame(reply_opcode(text), text.encode())[:keep])

    return act


def reset_after(count: int) -> Act:
    """Read ``count`` bytes of the request, then reset the connection."""

    def act(connection: socket.socket, peer: ScriptedPeer) -> None:
        left = count
        while left and (data := connection.recv(left)):
            left -= len(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return act


def raw(data: bytes) -> Act:
    """Read a request, answer with these bytes, close."""

    def act(connection: socket.socket, peer: ScriptedPeer) -> None:
        peer.read_request(connection)
        connection.sendall(data)

    return act
