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
from typing import Protocol

from titan_sdk.cluster.engines.ray.values import Config
from titan_sdk.wire import hello
from titan_sdk.wire.frames import encode_frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["Relay", "connect"]

_CONNECT_SECONDS = 5.0
_PIECE = 65536
_BACKLOG = 64


class Configs(Protocol):
    """Tells where the front is."""

    def __call__(self, *, renew: bool = False) -> Config: ...


class Relay:
    """Listens from its making on, for as long as the process lives.

    Raises:
        OSError: the socket cannot be made.
    """

    def __init__(self, folder: Path, configs: Configs) -> None:
        self._configs = configs
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
                far = self._reach()
            except OSError:
                return  # the job sees a closed connection, and tries again
            with far:
                _exchange(near, far)

    def _reach(self) -> socket.socket:
        try:
            return connect(self._configs())
        except OSError:
            return connect(self._configs(renew=True))


def connect(config: Config) -> socket.socket:
    """A connection to the front that is let in.

    Raises:
        OSError: it is not there, or does not let this in.
    """
    raw = socket.create_connection((config.host, config.port), timeout=_CONNECT_SECONDS)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far = raw if config.certificate is None else _encrypt(raw, config.certificate)
        if config.token is not None:
            _show_token(far, config.token)
        far.settimeout(None)
    except BaseException:
        raw.close()
        raise
    return far


def _encrypt(raw: socket.socket, certificate: str) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Exactly this front's certificate, whatever name or address it is reached by.
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return context.wrap_socket(raw)


def _show_token(far: socket.socket, token: str) -> None:
    far.sendall(encode_frame(Opcode.HELLO, hello.request(token).encode()))
    head = _exactly(far, 8)
    reply = _exactly(far, int.from_bytes(head[4:], "big"))
    if reply.decode("utf-8", "replace").startswith(hello.REFUSED):
        raise PermissionError("the front does not know the token of its jobs any more")


def _exactly(far: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = far.recv(size - len(data))
        if not piece:
            raise ConnectionError("the front closed the connection")
        data += piece
    return data


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
    """Sockets of worker processes that are gone."""
    for path in folder.glob("*.sock"):
        pid = path.name.partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            path.unlink(missing_ok=True)
