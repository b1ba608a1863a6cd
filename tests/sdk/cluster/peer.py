"""A client of nothing but bytes: raw frames to a master, so that no client of ours can hide what it answers."""

from __future__ import annotations

import base64
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

_HEADER = struct.Struct(">BBBBi")
TERMINAL = {"COMPLETED", "DEAD", "CANCELLED"}


@dataclass(frozen=True)
class Reply:
    opcode: int
    text: str

    @property
    def ok(self) -> bool:
        return self.opcode == 0x50


def frame(opcode: int, text: str | bytes, *, version: int = 1, length: int | None = None) -> bytes:
    payload = text.encode() if isinstance(text, str) else text
    return _HEADER.pack(version, opcode, 0, 0, len(payload) if length is None else length) + payload


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode("ascii")


def script(
    job_id: str,
    code: str,
    *,
    args: str = "",
    name: str = "job.py",
    tag: str = "GENERAL",
    priority: int = 1,
    delay: int = 0,
    parents: Iterable[str] = (),
    affinity: bool = False,
) -> str:
    """A RUN_PAYLOAD line as the upstream SDK writes it."""
    tail = f"{priority}|{delay}|[{','.join(parents)}]" + ("|AFFINITY" if affinity else "")
    return f"{job_id}|RUN_PAYLOAD|{name}|{args}|{b64(code)}|{tag}|{tail}"


class Peer:
    """One request per connection, as every existing client does it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def ask(self, opcode: int, text: str | bytes = "") -> Reply:
        with self.connect() as sock:
            sock.sendall(frame(opcode, text))
            return read_reply(sock)

    def submit(self, *lines: str) -> Reply:
        return self.ask(0x04, " ; ".join(lines))

    def status(self, job_id: str) -> str:
        return self.ask(0x55, job_id).text

    def log(self, job_id: str) -> str:
        return self.ask(0x16, job_id).text

    def cancel(self, job_id: str) -> str:
        return self.ask(0x56, job_id).text

    def until(self, job_id: str, *wanted: str, seconds: float = 240) -> str:
        """The status, once it is one of these (any terminal one by default)."""
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while (status := self.status(job_id)) not in (wanted or TERMINAL):
            assert time.monotonic() < deadline, f"{job_id} is still {status}; log: {self.log(job_id)!r}"
            pause.wait(0.005)
        return status


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError(f"the peer closed after {len(data)} of {size} bytes")
        data += chunk
    return data


def read_reply(sock: socket.socket) -> Reply:
    version, opcode, _, _, length = _HEADER.unpack(read_exactly(sock, 8))
    assert version == 1
    return Reply(opcode, read_exactly(sock, length).decode())


class Meeting:
    """A place where jobs say that they have come so far, and wait for leave to go on.

    Jobs use ``meeting.code(word)``: Python statements that connect, send the word and block until answered.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.settimeout(240)
        self._waiting: list[socket.socket] = []

    def code(self, word: str) -> str:
        port = self._listener.getsockname()[1]
        return (
            "import socket as _s\n"
            f"_c = _s.create_connection(('127.0.0.1', {port})); _c.sendall({word.encode()!r}); "
            "_c.shutdown(_s.SHUT_WR); _c.recv(1)\n"
        )

    def arrival(self) -> tuple[str, socket.socket]:
        """The next job's word, and the connection: close it to let the job go on."""
        connection, _ = self._listener.accept()
        connection.settimeout(240)
        self._waiting.append(connection)
        word = b""
        while chunk := connection.recv(100):
            word += chunk
        return word.decode(), connection

    def let_go(self) -> None:
        for connection in self._waiting:
            connection.close()
        self._waiting.clear()

    def close(self) -> None:
        self.let_go()
        self._listener.close()
