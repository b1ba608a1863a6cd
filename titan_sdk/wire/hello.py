"""HELLO (0x40): tells a client which master it talks to. Our extension; docs/protocol.md specifies it."""

from __future__ import annotations

import json
from collections.abc import Iterable

from titan_sdk.errors import AuthenticationFailed, PeerProtocolError
from titan_sdk.model.server import ServerInfo

__all__ = ["BUNDLED_SERVER", "REFUSED", "check_reply", "read_reply", "read_token", "reply", "request"]

BUNDLED_SERVER = "titan-sdk-bundled"


REFUSED = "ERROR: AUTHENTICATION: "
"""Begins the answer of a master with a token to every request of a client that has not shown the token."""


def request(token: str | None = None) -> str:
    """The client's payload."""
    return '{"v":1}' if token is None else json.dumps({"v": 1, "token": token}, separators=(",", ":"))


def read_token(payload: bytes) -> str | None:
    """The token in a client's payload, or ``None``. Any other content is ignored."""
    try:
        token = json.loads(payload)["token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return token if isinstance(token, str) else None


def reply(version: str, features: Iterable[str], runtime: str) -> str:
    """The bundled master's payload. ``runtime`` is that of ``ServerInfo``."""
    return json.dumps(
        {"server": BUNDLED_SERVER, "version": version, "features": sorted(features), "runtime": runtime}
    )


def read_reply(text: str) -> ServerInfo:
    """The master that answered: ``UNKNOWN_OPCODE`` means a real Titan, JSON the bundled master.

    Raises:
        AuthenticationFailed: it is a bundled master that wants a token, or another token.
        PeerProtocolError: the text is neither.
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
    """Raise if the master refused the greeting.

    Raises:
        AuthenticationFailed: the master refused it.
    """
    if text.startswith(REFUSED):
        raise AuthenticationFailed(
            f"the master refused the connection: {text.removeprefix(REFUSED)}", detail=text
        )
