"""The smallest pieces of payload grammar: ``key|value``, ``name|base64``, ``a|b|c`` (protocol section 2).

Client and bundled master share these functions, so they cannot disagree on where a field ends.
"""

from __future__ import annotations

import base64
import binascii
import json

from titan_sdk.errors import CorruptData, LocalProtocolError, PeerProtocolError
from titan_sdk.wire.opcodes import FAILURE_WORDS

__all__ = [
    "MARK",
    "PARTS_MARK",
    "decode_base64",
    "decode_member",
    "decode_value",
    "encode_base64",
    "encode_key",
    "encode_member",
    "encode_value",
    "join_pair",
    "split_members",
    "split_pair",
]

MARK = "~t1~"
PARTS_MARK = "~t2~"
"""Begins the reference to a value that is stored in parts (flows/large_values.py)."""
_ABSENT = "NULL"


def join_pair(first: str, second: str) -> str:
    """``first|second``. The first part must not hold a pipe; the second may hold anything.

    Raises:
        LocalProtocolError: the first part holds a pipe, at which Titan would cut it.
    """
    if "|" in first:
        raise LocalProtocolError(f"{first[:80]!r} contains '|', at which Titan would cut it")
    return f"{first}|{second}"


def split_pair(payload: str) -> tuple[str, str] | None:
    """The parts before and after the first pipe, or ``None`` where there is no pipe."""
    first, pipe, second = payload.partition("|")
    return (first, second) if pipe else None


def encode_base64(data: bytes) -> str:
    """Base64 with the standard alphabet, padding and no line breaks: the only form that a worker decodes (section 5.1)."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """The bytes behind base64 text. Padding is optional; everything else is checked.

    Raises:
        PeerProtocolError: the text is not base64.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise PeerProtocolError(f"expected base64, got {text[:60]!r} ({exc})") from exc


# ---------------------------------------------------------------------- texts in TitanStore (section 8.1, hazards 10, 11, 13)
#
# A real master's store corrupts non-ASCII text, reads NULL as absent, takes values beginning with an error word for
# errors, cuts keys at a pipe, and joins set members with commas. Text without these hazards is stored as it is, so other
# Titan clients can read it. Any other text is stored as ~t1~ and its JSON string in ASCII. The rule depends on the text
# alone, so one text has one stored form: sets need that to tell members apart.


def encode_value(text: str) -> str:
    """The stored form of a value. A ``(str, Enum)`` member is stored as its value; an f-string would write its name."""
    text = str.__str__(text)
    return _marked(text) if _value_needs_mark(text) else text


def decode_value(stored: str) -> str:
    """The value behind a stored form. Text of other clients is returned as it is."""
    return _unmarked(stored) if stored.startswith(MARK) else stored


def encode_key(key: str) -> str:
    """The stored form of a key: ASCII, without a pipe (which would end the key) and without outer spaces."""
    key = str.__str__(key)
    if not key.isascii() or "|" in key or key != key.strip() or key.startswith(MARK):
        return _marked(key).replace("|", "\\u007c")
    return key


def encode_member(member: str) -> str:
    """The stored form of a set member: as that of a value, and without commas. An empty text is escaped, too."""
    member = str.__str__(member)
    if _value_needs_mark(member) or "," in member or not member:
        return _marked(member).replace(",", "\\u002c")
    return member


def decode_member(stored: str) -> str:
    """The member behind a stored form. Text of other clients is returned as it is."""
    return decode_value(stored)


def split_members(reply: str) -> list[str]:
    """The members in a KV_SMEMBERS reply, in the master's (arbitrary) order."""
    return [decode_member(part) for part in reply.split(",")] if reply else []


def _value_needs_mark(text: str) -> bool:
    return not text.isascii() or text == _ABSENT or text.startswith((MARK, PARTS_MARK, *FAILURE_WORDS))


def _marked(text: str) -> str:
    return MARK + json.dumps(text, ensure_ascii=True)


def _unmarked(stored: str) -> str:
    try:
        text = json.loads(stored[len(MARK) :])
    except (ValueError, RecursionError) as exc:
        raise CorruptData(
            f"TitanStore holds {stored[:80]!r}, which begins like an escape of this SDK but is none"
        ) from exc
    if not isinstance(text, str):
        raise CorruptData(f"TitanStore holds {stored[:80]!r}, whose escape does not hold a text")
    return text
