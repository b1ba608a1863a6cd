"""ONCE (0x4A): a request with an id, which the bundled master carries out once however often it arrives.

Ours; specified in docs/protocol.md. The payload is the id, a pipe, the opcode of the request, a line feed, and the
request's own payload; the reply is that of the request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.frames import Frame

__all__ = ["IN_DOUBT", "LARGEST_HEAD", "OUT_OF_DATE", "RequestId", "decode", "encode", "inner_opcode"]

IN_DOUBT = "ERROR: IN_DOUBT: "
"""Begins the reply to a repeated request of which the master knows that it was begun, and not what became of it."""
OUT_OF_DATE = "ERROR: OUT_OF_DATE: a later request of this channel was carried out; this one was not"
"""The reply to a copy that comes too late. Nobody waits for it."""

LARGEST_HEAD = 64
"""Bytes that the id and the opcode take at most in front of the request's payload."""

_HEAD = re.compile(rb"([0-9a-f]{16})-([0-9]{1,15})-([0-9a-f]{8})\|([0-9]{1,3})")


@dataclass(frozen=True, slots=True)
class RequestId:
    """Which request it is. A channel has one request under way at a time, so a master need only know its last one."""

    channel: str
    """16 hex digits, of the client's choice."""
    number: int
    """Counts the channel's requests up."""
    mark: str
    """8 random hex digits, by which two requests that bear one number (of a process that was copied) are told apart."""

    def __str__(self) -> str:
        return f"{self.channel}-{self.number}-{self.mark}"


def encode(request_id: RequestId, opcode: int, payload: bytes) -> bytes:
    """The payload of ONCE."""
    return f"{request_id}|{opcode}\n".encode("ascii") + payload


def decode(payload: bytes) -> tuple[RequestId, Frame]:
    """The id, and the request that it belongs to.

    Raises:
        PeerProtocolError: there is none.
    """
    head, feed, rest = payload.partition(b"\n")
    found = _HEAD.fullmatch(head)
    if not feed or found is None or int(found[4]) > 255:
        raise PeerProtocolError(f"expected an id, an opcode, a line feed and a payload, got {payload[:80]!r}")
    request_id = RequestId(found[1].decode(), int(found[2]), found[3].decode())
    return request_id, Frame(int(found[4]), rest)


def inner_opcode(payload: bytes) -> int | None:
    """The opcode of the request inside, for those who count requests."""
    found = _HEAD.match(payload)
    return None if found is None else int(found[4])
