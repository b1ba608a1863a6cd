"""HELLO (0x40): how a client learns which master it talks to. Ours; specified in docs/protocol.md."""

from __future__ import annotations

import json
from collections.abc import Iterable

from titan_sdk.errors import AuthenticationFailed, PeerProtocolError
from titan_sdk.model.server import ServerInfo

__all__ = ["BUNDLED_SERVER", "REFUSED", "check_reply", "read_reply", "read_token", "reply", "request"]

BUNDLED_SERVER = "titan-sdk-bundled"


REFUSED = "ERROR: AUTHENTICATION: "
"""Begins the only answer that a master with a token gives to anybody who has not shown it."""


def request(token: str | None = None) -> str:
    """The client's payload."""
    return '{"v":1}' if token is None else json.dumps({"v": 1, "token": token}, separators=(",", ":"))


def read_token(payload: bytes) -> str | None:
    """The token in a client's payload; ``None`` where there is none, whatever else it holds."""
    try:
        token = json.loads(payload)["token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return token if isinstance(token, str) else None


def reply(version: str, features: Iterable[str], runtime: str) -> str:
    """The bundled master's payload; ``runtime``: see ``ServerInfo``."""
    return json.dumps(
        {"server": BUNDLED_SERVER, "version": version, "features": sorted(features), "runtime": runtime}
    )


def read_reply(text: str) -> ServerInfo:
    """Who answers: ``UNKNOWN_OPCODE`` is a real Titan, JSON is the bundled master.

    Raises:
        AuthenticationFailed: it is a bundled master that wants a token, or another one.
        PeerProtocolError: none of these.
    """
    check_reply(text)
    if text.startswith("UNKNOWN_OPCODE"):
        return ServerInfo("titan")
    try:
        data = json.loads(text)
        runtime = data.get("runtime")
        return ServerInfo(
            "bundled",
            str(data["version"]),
            frozenset(map(str, data["features"])),
            runtime if isinstance(runtime, str) else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise PeerProtocolError(f"server_info: the master answered HELLO with {text[:200]!r}") from exc


def check_reply(text: str) -> None:
    """Whether the greeting was taken.

    Raises:
        AuthenticationFailed: it was not.
    """
    if text.startswith(REFUSED):
        raise AuthenticationFailed(
            f"the master refused the connection: {text.removeprefix(REFUSED)}", detail=text
        )
