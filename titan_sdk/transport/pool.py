"""Kept connections to a master that allows them (the bundled one), for any number of threads."""

from __future__ import annotations

import os
import threading
import time
from collections import deque

from titan_sdk.config import ClientConfig
from titan_sdk.transport.sync import Connection, Greeting
from titan_sdk.wire.frames import Frame, encode_frame

__all__ = ["IDLE_SECONDS", "MAX_IDLE", "Pool"]

MAX_IDLE = 8
"""The number of unused connections that are kept. More may be open while they are in use."""
IDLE_SECONDS = 20.0
"""A connection that was idle for longer is not used again, because the master closes idle connections."""


class Pool:
    """Lends each exchange a connection of its own. Every connection begins with the greeting, sent together with
    its first request, so that keeping it costs no round trip.
    """

    def __init__(self, config: ClientConfig, greeting: Greeting) -> None:
        self._config = config
        self._greeting = greeting
        self._lock = threading.Lock()  # guards the two fields below
        self._idle: deque[tuple[float, Connection]] = deque()
        self._pid = os.getpid()

    def exchange(self, operation: str, opcode: int, payload: bytes) -> Frame:
        """As ``sync.exchange``, over a kept connection if one is idle."""
        request = encode_frame(opcode, payload)
        connection = self._take()
        try:
            if connection is not None:
                (frame,) = connection.talk(operation, request)
            else:
                connection = Connection(self._config, operation)
                hello, frame = connection.talk(operation, self._greeting[0] + request, replies=2)
                self._greeting[1](hello)
        except BaseException:
            # Also on KeyboardInterrupt, so that no later exchange gets the rest of this one.
            if connection is not None:
                connection.close()
            raise
        self._give_back(connection)
        return frame

    def close(self) -> None:
        """Close idle connections. Running exchanges go on; the pool may be used again."""
        with self._lock:
            idle, self._idle = self._idle, deque()
        for _, connection in idle:
            connection.close()

    def __del__(self) -> None:
        if hasattr(self, "_idle"):
            self.close()

    def _take(self) -> Connection | None:
        while True:
            with self._lock:
                if self._pid != os.getpid():
                    # After a fork, parent and child would mix up their replies on one connection.
                    self._idle, self._pid = deque(), os.getpid()
                if not self._idle:
                    return None
                since, connection = self._idle.pop()
            if time.monotonic() - since < IDLE_SECONDS and connection.is_usable():
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if len(self._idle) < MAX_IDLE and self._pid == os.getpid():
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()
