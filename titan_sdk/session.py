"""What a client remembers between calls: who the master is, and which assets it surely has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from titan_sdk.config import ClientConfig
from titan_sdk.errors import ConnectionLost, TitanError
from titan_sdk.model.stats import ServerInfo

__all__ = ["Session"]


@dataclass
class Session:
    """One client's memory. Every field may be lost at any time; it only saves questions.

    Shared by threads without a lock: assignments and set updates are atomic, and doing one twice is harmless.
    """

    config: ClientConfig
    server: ServerInfo | None = None
    was_known: bool = False
    """Whether a master has said before who it is, although it has to be asked again."""
    uploaded: set[str] = field(default_factory=set)
    """Names of content-addressed assets that this client has uploaded or seen on the master."""
    on_submitted: Callable[[dict[str, Any]], None] | None = None
    """Told the manifest of every DAG that was submitted; may block, must not raise."""

    def forget_server(self, exc: TitanError) -> None:
        """After a lost connection another master may stand at the address, so what it can do is asked again."""
        if isinstance(exc, ConnectionLost) and self.server is not None:
            self.server, self.was_known = None, True
