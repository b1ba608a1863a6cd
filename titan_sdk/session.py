"""The state of a client between calls: which master answers, and the ids of its requests."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from titan_sdk.config import ClientConfig
from titan_sdk.errors import ConnectionLost, TitanError
from titan_sdk.model.server import ServerInfo
from titan_sdk.wire.exactly_once import RequestId

__all__ = ["RequestIds", "Session"]


class RequestIds:
    """Ids for requests that a master carries out once (ONCE). A channel has one request under way."""

    def __init__(self) -> None:
        self._free: deque[tuple[str, int]] = deque()
        self._pid = os.getpid()

    def take(self) -> RequestId:
        """A new id, for one request and its copies."""
        if self._pid != os.getpid():
            # After a fork, parent and child would give two requests the same number.
            self._free, self._pid = deque(), os.getpid()
        try:
            channel, number = self._free.pop()
        except IndexError:
            channel, number = os.urandom(8).hex(), 0
        return RequestId(channel, number + 1, os.urandom(4).hex())

    def give_back(self, request: RequestId) -> None:
        """The request will not be sent again, so its channel is free."""
        if self._pid == os.getpid():
            self._free.append((request.channel, request.number))


@dataclass
class Session:
    """The state of one client. Every field is a cache and may be lost at any time.

    Threads share it without a lock: assignments are atomic, and a repeated one is harmless.
    """

    config: ClientConfig
    server: ServerInfo | None = None
    was_known: bool = False
    """Whether a master has already answered HELLO, even if it has to be asked again."""
    on_submitted: Callable[[dict[str, Any]], None] | None = None
    """Called with the manifest of every submitted DAG. May block, must not raise."""
    request_ids: RequestIds = field(default_factory=RequestIds)

    @property
    def keeps_connections(self) -> bool:
        """Whether requests share connections; a real master serves one per connection."""
        return self.server is not None and self.config.keep_alive and "keep_alive" in self.server.features

    @property
    def greets_anew(self) -> bool:
        """Whether every connection has to show the token; a real master, which knows none, would answer nothing else."""
        return (
            self.config.auth_token is not None and self.server is not None and self.server.kind == "bundled"
        )

    def forget_server(self, exc: TitanError) -> None:
        """Forget the master's features: after a lost connection another master may answer at the address."""
        if isinstance(exc, ConnectionLost) and self.server is not None:
            self.server, self.was_known = None, True
