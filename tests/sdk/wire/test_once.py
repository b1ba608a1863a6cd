"""The payload of ONCE: both halves agree, and whatever else comes is refused."""

from __future__ import annotations

import pytest

from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire import exactly_once
from titan_sdk.wire.exactly_once import LARGEST_HEAD, RequestId
from titan_sdk.wire.frames import Frame

WIDEST = RequestId("f" * 16, 10**15 - 1, "a" * 8)


@pytest.mark.parametrize("payload", [b"", b"k|v", b"\n\n", bytes(range(256))])
@pytest.mark.parametrize("opcode", [0, 0x60, 255])
def test_both_halves_agree(opcode: int, payload: bytes) -> None:
    encoded = exactly_once.encode(WIDEST, opcode, payload)
    assert exactly_once.decode(encoded) == (WIDEST, Frame(opcode, payload))
    assert exactly_once.inner_opcode(encoded) == opcode
    assert len(encoded) <= len(payload) + LARGEST_HEAD


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\n",
        exactly_once.encode(WIDEST, 96, b"").rstrip(b"\n"),
        b"x" + exactly_once.encode(WIDEST, 96, b"k|v"),
        exactly_once.encode(WIDEST, 256, b"k|v"),
        exactly_once.encode(RequestId("short", 1, "a" * 8), 96, b"k|v"),
        exactly_once.encode(RequestId("f" * 16, 10**15, "a" * 8), 96, b"k|v"),
        exactly_once.encode(RequestId("f" * 16, -1, "a" * 8), 96, b"k|v"),
    ],
)
def test_anything_else_is_refused(payload: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="expected an id, an opcode, a line feed and a payload"):
        exactly_once.decode(payload)
    assert exactly_once.inner_opcode(b"x" + payload) is None
