"""ONCE (0x4A): a request with an id. The bundled master carries it out once, however often it arrives.

Our extension; docs/protocol.md specifies it. The payload is the id, a pipe, the opcode of the request, a line feed, and
the payload of the request. The reply is the reply to the request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.frames import Frame

__all__ = ["IN_DOUBT", "LARGEST_HEAD", "OUT_OF_DATE", "RequestId", "decode", "encode", "inner_opcode"]

IN_DOUBT = "ERROR: IN_DOUBT: "
"""Begins the reply to a copy if the master knows that the request began, but not whether it was carried out."""
OUT_OF_DATE = "ERROR: OUT_OF_DATE: a later request of this channel was carried out; this one was not"
"""The reply to a copy that arrives after a later request of the channel. No client waits for it."""

LARGEST_HEAD = 64
"""The largest size of the id and the opcode in front of the payload, in bytes."""

_HEAD = re.compile(rb"([0-9a-f]{16})-([0-9]{1,15})-([0-9a-f]{8})\|([0-9]{1,3})")


@dataclass(frozen=True, slots=True)
class RequestId:
    """Identifies a request. A channel has one request under way, so a master remembers only the last one of each channel."""

    channel: str
    """16 hex digits, chosen by the client."""
    number: int
    """Counts the requests of the channel, upwards."""
    mark: str
    """8 random hex digits. They distinguish two requests with the same number, which a copied process can send."""

    def __str__(self) -> str:
        return f"{self.channel}-{self.number}-{self.mark}"


def encode(request_id: RequestId, opcode: int, payload: bytes) -> bytes:
    """The payload of ONCE."""
    return f"{request_id}|{opcode}\n".encode("ascii") + payload


def decode(payload: bytes) -> tuple[RequestId, Frame]:
    """The id and the request inside.

    Raises:
        PeerProtocolError: the payload does not begin with an id and an opcode.
    """
    head, feed, rest = payload.partition(b"\n")
    found = _HEAD.fullmatch(head)
    if not feed or found is None or int(found[4]) > 255:
        raise PeerProtocolError(f"expected an id, an opcode, a line feed and a payload, got {payload[:80]!r}")
    request_id = RequestId(found[1].decode(), int(found[2]), found[3].decode())
    return request_id, Frame(int(found[4]), rest)


def inner_opcode(payload: bytes) -> int | None:
    """The opcode of the request inside, for the request metrics."""
    found = _HEAD.match(payload)
    return None if found is None else int(found[4])
