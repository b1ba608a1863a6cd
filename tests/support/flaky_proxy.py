"""A TCP proxy that breaks every so many-th connection in the middle of a reply, or loses chosen replies, and outlives its
master.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
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
        self.lose: bytes | None = None
        """Lose the reply to the next request that holds this; then it is ``None`` again."""
        self.before_the_loss: Callable[[], None] = lambda: None
        """Called when the master has replied, while the client still waits."""
        self.cut: Callable[[], bool] = lambda: False
        """Asked for every piece of a request or a reply, whether to break the connection instead of passing it on."""
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
        self._thread.join(timeout=60)

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

    def _look(self, data: bytes, marked: threading.Event) -> None:
        if self.lose is not None and self.lose in data:
            self.lose = None
            marked.set()

    def _is_lost(self, marked: threading.Event) -> bool:
        if marked.is_set():
            self.before_the_loss()
        return marked.is_set()

    def _forward(self, client: socket.socket, master: socket.socket, limit: int | None) -> None:
        with master:
            marked = threading.Event()

            def forward_up() -> None:
                if _pump(client, master, look=lambda data: self._look(data, marked), lost=lambda: self.cut()):
                    self.broken += 1
                    _end(client, master)

            up = threading.Thread(target=forward_up, daemon=True)
            up.start()
            if _pump(master, client, limit, lost=lambda: self._is_lost(marked) or self.cut()):
                self.broken += 1
            _end(client, master)
            up.join(timeout=60)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _pump(
    source: socket.socket,
    target: socket.socket,
    limit: int | None = None,
    *,
    look: Callable[[bytes], None] = lambda _: None,
    lost: Callable[[], bool] = lambda: False,
) -> bool:
    """Copy until the end; True when it was broken off at the limit, or is to be lost."""
    try:
        while data := source.recv(65536):
            look(data)
            if lost():
                return True
            if limit is not None and len(data) >= limit:
                target.sendall(data[:limit])
                return True
            target.sendall(data)
            limit = None if limit is None else limit - len(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return False
