"""The bytes of one connected socket, with a timeout that counts from the last progress."""

from __future__ import annotations

import select
import socket
import ssl
import time
from typing import Protocol

__all__ = ["BlockingStream", "KeenStream", "Stream", "open_stream"]

LOOK_SECONDS = 300e-6
"""How long a reply is looked for before the thread sleeps: about what a bundled master takes for a small request,
and less than it may take to wake the core of a virtual machine that has gone idle meanwhile."""
LOOKS_SKIPPED = 15
"""After looking in vain several times: a master that is further away would have every call burn that time. One that
was busy for a moment is looked for again at once, then after 1, 3, 7 calls.
"""


class Stream(Protocol):
    """For one thread at a time. After an error nothing but ``close`` makes sense."""

    def send_all(self, data: bytes) -> None:
        """Raises OSError; TimeoutError when the peer takes nothing for the timeout."""

    def receive(self, size: int) -> bytes:
        """At most ``size`` bytes, empty at the end. Raises OSError; TimeoutError when nothing comes."""

    def is_quiet(self) -> bool:
        """Whether the peer has neither closed nor sent anything that was not received."""

    def close(self) -> None:
        """At once; idempotent."""


def open_stream(opened: socket.socket, seconds: float, *, keen: bool) -> Stream:
    """``keen``: the peer is known to answer faster than this machine may wake a thread."""
    if keen and not isinstance(opened, ssl.SSLSocket):
        return KeenStream(opened, seconds)
    return BlockingStream(opened, seconds)


class BlockingStream:
    """Sleeps until there is something."""

    def __init__(self, opened: socket.socket, seconds: float) -> None:
        self._socket = opened
        opened.settimeout(seconds)
        self.send_all, self.receive, self.close = opened.sendall, opened.recv, opened.close

    def is_quiet(self) -> bool:
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return False
        if not hasattr(select, "poll"):
            return not select.select([self._socket], [], [], 0)[0]
        poll = select.poll()  # select() refuses descriptors above 1,023
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)


class KeenStream:
    """Looks for the reply a moment before it sleeps. Two cores that hand each other small frames answer more than
    twice as many in that way; a core that is needed for something else loses that moment.
    """

    def __init__(self, opened: socket.socket, seconds: float) -> None:
        self._socket, self._seconds = opened, seconds
        self._skip = self._skip_next = 0
        self.close = opened.close
        opened.settimeout(0)

    def send_all(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._socket.settimeout(self._seconds)
            self._socket.sendall(memoryview(data)[sent:])
            self._socket.settimeout(0)

    def receive(self, size: int) -> bytes:
        if self._skip:
            self._skip -= 1
        else:
            until = time.perf_counter() + LOOK_SECONDS
            while True:
                try:
                    data = self._socket.recv(size)
                except BlockingIOError:
                    if time.perf_counter() > until:
                        break
                else:
                    self._skip_next = 0
                    return data
            self._skip, self._skip_next = self._skip_next, min(2 * self._skip_next + 1, LOOKS_SKIPPED)
        self._socket.settimeout(self._seconds)
        data = self._socket.recv(size)
        self._socket.settimeout(0)
        return data

    def is_quiet(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False
