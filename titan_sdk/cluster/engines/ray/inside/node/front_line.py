"""A node's line to the front, wherever that is at the moment."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any

import ray

from titan_sdk.cluster.engines.ray.inside.dialling import greeting, tls_context
from titan_sdk.cluster.engines.ray.stream import pack
from titan_sdk.cluster.engines.ray.values import NAMESPACE, Front
from titan_sdk.wire import hello
from titan_sdk.wire.frames import Frame, FrameDecoder, encode_frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["Asking", "FrontLine"]

_SECONDS = 5.0
_REPLY_SECONDS = 20.0
_PIECE = 65536


class FrontLine:
    """One per process of Ray's; for any thread.

    Args:
        dispatcher: name of the actor that knows where the front is. Found by name, as a service outlives the
            dispatcher that started it.
    """

    def __init__(self, dispatcher: str) -> None:
        self._dispatcher = dispatcher
        self._front = b""
        self._lock = threading.Lock()

    def told(self, front: bytes) -> None:
        """Where it was when a run was ordered."""
        with self._lock:
            self._front = front

    def connect(self) -> socket.socket:
        """A connection to the front that is let in.

        Raises:
            OSError: there is none at the moment.
        """
        try:
            return _connect(Front.decode(self._front))
        except OSError:
            self._look_up()
            return _connect(Front.decode(self._front))

    def tell(self, run: str, node: str | None, answers: bool) -> None:
        """Let the dispatcher know of a run; one that is gone will ask, or have the run again."""
        with suppress(ValueError):
            self._found().heard.remote(run, node, answers)

    def _look_up(self) -> None:
        try:
            # By the future: Ray gives the CPU of a task that is in `ray.get` to another one.
            front = self._found().front.remote().future().result(_SECONDS)
        except (ValueError, ray.exceptions.RayError, FutureTimeout) as exc:
            raise OSError(f"the dispatcher does not tell where the front is: {exc}") from exc
        if front:
            self.told(front)

    def _found(self) -> Any:
        """The dispatcher.

        Raises:
            ValueError: there is none at the moment.
        """
        return ray.get_actor(self._dispatcher, namespace=NAMESPACE)


class Asking:
    """Requests to the front's engine, one after the other."""

    def __init__(self, far: socket.socket) -> None:
        self._far = far
        far.settimeout(_REPLY_SECONDS)

    def ask(self, data: bytes, **head: Any) -> Frame:
        """The reply.

        Raises:
            OSError: there is none.
        """
        self._far.sendall(encode_frame(Opcode.ENGINE, pack(head, data)))
        return _receive(self._far)

    def close(self) -> None:
        self._far.close()


def _connect(front: Front) -> socket.socket:
    raw = socket.create_connection((front.host, front.port), timeout=_SECONDS)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = tls_context(front)
        far = raw if context is None else context.wrap_socket(raw)
        far.sendall(greeting(front))
        if _receive(far).text.startswith(hello.REFUSED):
            raise PermissionError("the front does not know the token of its nodes any more")
        far.settimeout(None)
    except BaseException:
        raw.close()
        raise
    return far


def _receive(far: socket.socket) -> Frame:
    decoder = FrameDecoder(limit=None)
    while (frame := decoder.next_frame()) is None:
        piece = far.recv(min(decoder.wanted, _PIECE))
        if not piece:
            raise ConnectionError("the front closed the connection")
        decoder.feed(piece)
    return frame
