"""HELLO (0x40): how a client learns which master it talks to. Ours; specified in docs/protocol.md."""

from __future__ import annotations

import json
from collections.abc import Iterable

from titan_sdk.errors import PeerProtocolError
from titan_sdk.model.stats import ServerInfo

__all__ = ["BUNDLED_SERVER", "read_reply", "reply", "request"]

BUNDLED_SERVER = "titan-sdk-bundled"


def request() -> str:
    """The client's payload."""
    return '{"v":1}'


def reply(version: str, features: Iterable[str]) -> str:
    """The bundled master's payload."""
    return json.dumps({"server": BUNDLED_SERVER, "version": version, "features": sorted(features)})


def read_reply(text: str) -> ServerInfo:
    """Who answers: ``UNKNOWN_OPCODE`` is a real Titan, JSON is the bundled master.

    Raises:
        PeerProtocolError: neither.
    """
    if text.startswith("UNKNOWN_OPCODE"):
        return ServerInfo("titan")
    try:
        data = json.loads(text)
        return ServerInfo("bundled", str(data["version"]), frozenset(map(str, data["features"])))
    except (ValueError, KeyError, TypeError) as exc:
        raise PeerProtocolError(f"server_info: the master answered HELLO with {text[:200]!r}") from exc
