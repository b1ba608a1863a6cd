"""How a job reaches the front: a Unix socket of its own user, and from there a connection to where the front is now.

So jobs need neither the token nor TLS nor the front's address, which may change while they run: the runtime and
`TitanClient` in a job use `TITAN_SOCKET` as they do beside a master on one machine.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import ssl
import threading
from pathlib import Path

from titan_sdk.cluster.engines.ray.inside.node.front_line import FrontLine

__all__ = ["Relay"]

_PIECE = 65536
_BACKLOG = 64


class Relay:
    """Listens from its making on, for as long as the process lives.

    Raises:
        OSError: the socket cannot be made.
    """

    def __init__(self, folder: Path, line: FrontLine) -> None:
        self._line = line
        _remove_dead(folder)
        self.path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        os.chmod(self.path, 0o600)
        self._listener.listen(_BACKLOG)
        threading.Thread(target=self._accept, name="titan-relay", daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(near,), name="titan-relay-peer", daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            try:
                far = self._line.connect()
            except OSError:
                return  # the job sees a closed connection, and tries again
            with far:
                _exchange(near, far)


def _exchange(near: socket.socket, far: socket.socket) -> None:
    """Copy both ways until one side ends. In one thread: a TLS connection is not to be used by two."""
    try:
        while True:
            if isinstance(far, ssl.SSLSocket) and far.pending():
                ready: list[socket.socket] = [far]
            else:
                ready, _, _ = select.select([near, far], [], [])
            for source, target in ((near, far), (far, near)):
                if source in ready:
                    piece = source.recv(_PIECE)
                    if not piece:
                        return
                    target.sendall(piece)
    except OSError:
        return  # one side is gone, and with the return so is the other


def _remove_dead(folder: Path) -> None:
    """Sockets of processes that are gone."""
    for path in folder.glob("*.sock"):
        pid = path.name.partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            path.unlink(missing_ok=True)
