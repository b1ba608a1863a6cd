"""What a client remembers between calls: who the master is, and the ids of its requests."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from titan_sdk.config import ClientConfig
from titan_sdk.errors import ConnectionLost, TitanError
from titan_sdk.model.server import ServerInfo
from titan_sdk.wire.once import RequestId

__all__ = ["RequestIds", "Session"]


class RequestIds:
    """Ids for requests that a master is to carry out once. Each is its channel's only one under way."""

    def __init__(self) -> None:
        self._free: deque[tuple[str, int]] = deque()
        self._pid = os.getpid()

    def take(self) -> RequestId:
        """A new id, for one request and its copies."""
        if self._pid != os.getpid():
            # After a fork parent and child would give two requests one number.
            self._free, self._pid = deque(), os.getpid()
        try:
            channel, number = self._free.pop()
        except IndexError:
            channel, number = os.urandom(8).hex(), 0
        return RequestId(channel, number + 1, os.urandom(4).hex())

    def give_back(self, request: RequestId) -> None:
        """Nobody will send that request again."""
        if self._pid == os.getpid():
            self._free.append((request.channel, request.number))


@dataclass
class Session:
    """One client's memory. Every field may be lost at any time; it only saves questions.

    Shared by threads without a lock: assignments are atomic, and doing one twice is harmless.
    """

    config: ClientConfig
    server: ServerInfo | None = None
    was_known: bool = False
    """Whether a master has said before who it is, although it has to be asked again."""
    on_submitted: Callable[[dict[str, Any]], None] | None = None
    """Told the manifest of every DAG that was submitted; may block, must not raise."""
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
        """After a lost connection another master may stand at the address, so what it can do is asked again."""
        if isinstance(exc, ConnectionLost) and self.server is not None:
            self.server, self.was_known = None, True
