"""The smallest pieces of payload grammar: ``key|value``, ``name|base64``, ``a|b|c`` (protocol section 2).

Both halves use these, so a client and the bundled master cannot disagree on where a field ends.
"""

from __future__ import annotations

import base64
import binascii

from titan_sdk.errors import LocalProtocolError, PeerProtocolError

__all__ = ["decode_base64", "encode_base64", "join_pair", "split_pair"]


def join_pair(first: str, second: str) -> str:
    """``first|second``; the first part may not hold a pipe, the second may hold anything.

    Raises:
        LocalProtocolError: the first part holds a pipe and would be cut there.
    """
    if "|" in first:
        raise LocalProtocolError(f"{first[:80]!r} contains '|', at which Titan would cut it")
    return f"{first}|{second}"


def split_pair(payload: str) -> tuple[str, str] | None:
    """The parts before and after the first pipe, or ``None`` where there is no pipe."""
    first, pipe, second = payload.partition("|")
    return (first, second) if pipe else None


def encode_base64(data: bytes) -> str:
    """Standard alphabet, padded, no line breaks: the only form a worker decodes (section 5.1)."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """The bytes behind base64 text; padding is optional, everything else strict.

    Raises:
        PeerProtocolError: the text is not base64.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise PeerProtocolError(f"expected base64, got {text[:60]!r} ({exc})") from exc
