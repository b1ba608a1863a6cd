"""The part of a Titan master that a launcher talks to: values and assets, one request per connection.

Small enough to be checked by eye against protocol sections 1, 2 and 8; it can be made to fail on purpose.
"""

from __future__ import annotations

import base64
import contextlib
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

KV_SET, KV_GET, FETCH_ASSET, UPLOAD_ASSET, JOB_STATUS = 0x60, 0x61, 0x54, 0x53, 0x55


class MiniStore:
    """Serves until closed; `port` is free to use at once."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.assets: dict[str, bytes] = {}
        self.statuses: dict[str, str] = {}
        self.requests: list[tuple[int, str]] = []
        self.store_down = False
        """As a real master whose store is down: writes are OK and lost, reads are NULL."""
        self.asset_replies: list[bytes] = []
        """Contents served before the real one, as while an upload overwrites the file."""
        self._changed = threading.Condition()
        self._server: socketserver.ThreadingTCPServer | None = None
        self.port = 0
        self.open()

    def open(self) -> None:
        """Listen, on the same port as before if there was one."""
        socketserver.ThreadingTCPServer.allow_reuse_address = True
        server = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), _handler(self))
        server.daemon_threads = True
        self.port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        """Stop listening: connections are refused from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """The master is not there."""
        self.close()
        try:
            yield
        finally:
            self.open()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 240.0) -> None:
        """Block until a request has made the condition true."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, f"not reached within {seconds} s; requests so far: {self.requests[-20:]}"
                self._changed.wait(left)

    def answer(self, opcode: int, payload: str) -> str:
        with self._changed:
            self.requests.append((opcode, payload.partition("|")[0]))
            reply = self._answer(opcode, payload)
            self._changed.notify_all()
            return reply

    def _answer(self, opcode: int, payload: str) -> str:
        name, _, rest = payload.partition("|")
        if opcode == KV_SET:
            payload.encode("ascii")  # anything else would shift a real master's store connection
            if not self.store_down:
                self.values[name] = rest
            return "OK"
        if opcode == KV_GET:
            return "NULL" if self.store_down else self.values.get(name, "NULL")
        if opcode == UPLOAD_ASSET:
            self.assets[name] = base64.b64decode(rest)
            return "UPLOAD_SUCCESS"
        if opcode == JOB_STATUS:
            return self.statuses.get(payload, "NULL")
        if opcode == FETCH_ASSET:
            if self.asset_replies:
                return base64.b64encode(self.asset_replies.pop(0)).decode()
            return base64.b64encode(self.assets[name]).decode() if name in self.assets else "ERROR_NOT_FOUND"
        return f"UNKNOWN_OPCODE: {opcode}"


def _handler(store: MiniStore) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = self.rfile.read(8)
            if len(head) < 8 or head[0] != 1:
                return
            payload = self.rfile.read(int.from_bytes(head[4:], "big"))
            reply = store.answer(head[1], payload.decode()).encode()
            failed = reply.startswith((b"ERROR", b"UNKNOWN"))
            self.wfile.write(
                bytes((1, 0x51 if failed else 0x50, 0, 0)) + len(reply).to_bytes(4, "big") + reply
            )

    return Handler
