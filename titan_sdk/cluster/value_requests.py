"""Requests that change a value or a set: what each asks of the store, and the reply to what came of it."""

from __future__ import annotations

from collections.abc import Callable

from titan_sdk.cluster.store.changes import AddMember, Delete, Expire, Put, Swap
from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.extensions import Fields, StoreSwap, read_object, write_object
from titan_sdk.wire.fields import split_pair
from titan_sdk.wire.opcodes import Opcode

__all__ = ["ValueChange", "change_of", "reply_to"]

ValueChange = Put | Swap | AddMember | Delete | Expire


def change_of(opcode: int, payload: bytes) -> ValueChange | None:
    """What the request asks for; nothing where it is of another kind.

    Raises:
        PeerProtocolError: it is malformed.
    """
    read = _READ.get(opcode)
    return None if read is None else read(payload.decode("utf-8", "replace"))


def reply_to(opcode: int, result: object) -> str:
    """The reply's text."""
    return _REPLY[opcode](result)


def _pair(text: str) -> tuple[str, str]:
    pair = split_pair(text)
    if pair is None:
        raise PeerProtocolError("Invalid Format")
    return pair


def _swap(text: str) -> Swap:
    request = StoreSwap.decode(text)
    return Swap(request.key, request.expected, request.value)


def _expire(text: str) -> Expire:
    fields: Fields = read_object(text)
    seconds = fields.want("seconds", float)
    if not seconds > 0:
        raise PeerProtocolError(f"seconds {seconds!r} is not a number above 0")
    return Expire(fields.want("key", str), seconds)


_READ: dict[int, Callable[[str], ValueChange]] = {
    Opcode.KV_SET: lambda text: Put(*_pair(text)),
    Opcode.KV_SADD: lambda text: AddMember(*_pair(text)),
    Opcode.STORE_DELETE: lambda text: Delete(read_object(text).want("key", str)),
    Opcode.STORE_SWAP: _swap,
    Opcode.STORE_EXPIRE: _expire,
}
_REPLY: dict[int, Callable[[object], str]] = {
    Opcode.KV_SET: lambda _: "OK",
    Opcode.KV_SADD: lambda new: "1" if new else "0",
    Opcode.STORE_DELETE: lambda deleted: write_object(deleted=bool(deleted)),
    Opcode.STORE_SWAP: lambda swapped: write_object(swapped=bool(swapped)),
    Opcode.STORE_EXPIRE: lambda there: write_object(set=bool(there)),
}
