"""A TCP proxy that breaks every so many-th connection in the middle of a reply, and outlives its master."""

from __future__ import annotations

import socket
import threading
from types import TracebackType


class FlakyProxy:
    """Forwards to a master until its block ends.

    Args:
        every: which connections break: each ``every``-th one, after ``keep`` bytes of what the master sends.
    """

    def __init__(self, host: str, port: int, *, every: int = 1 << 60, keep: int = 0) -> None:
        self.target = (host, port)
        """Where the master is; may be another one later."""
        self._every, self._keep = every, keep
        self.broken = 0
        self.refused = 0
        """Connections that found no master."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> FlakyProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=10)

    def _accept(self) -> None:
        count = 0
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            count += 1
            limit = self._keep if count % self._every == 0 else None
            threading.Thread(target=self._serve, args=(client, limit), daemon=True).start()

    def _serve(self, client: socket.socket, limit: int | None) -> None:
        with client:
            try:
                master = socket.create_connection(self.target)
            except OSError:
                self.refused += 1
                return
            self._forward(client, master, limit)

    def _forward(self, client: socket.socket, master: socket.socket, limit: int | None) -> None:
        with master:
            up = threading.Thread(target=_pump, args=(client, master), daemon=True)
            up.start()
            if _pump(master, client, limit):
                self.broken += 1
            for end in (client, master):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            up.join(timeout=10)


def _pump(source: socket.socket, target: socket.socket, limit: int | None = None) -> bool:
    """Copy until the end; True when it was broken off at the limit."""
    try:
        while data := source.recv(65536):
            if limit is not None and len(data) >= limit:
                target.sendall(data[:limit])
                return True
            target.sendall(data)
            limit = None if limit is None else limit - len(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return False
