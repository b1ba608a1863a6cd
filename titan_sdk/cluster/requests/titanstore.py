"""TitanStore, the values and sets: the change or the read of a request, and its reply."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import AddMember, Delete, Expire, Put, Swap
from titan_sdk.errors import CorruptData, PeerProtocolError
from titan_sdk.wire.extensions import Fields, StoreSwap, read_object, write_object
from titan_sdk.wire.fields import MARK, decode_value, split_pair
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["LARGE_REPLY", "ValueChange", "Values", "change_of", "reply_to"]

LARGE_REPLY = 16 * 1024
"""The size in bytes above which a value is read in its turn among the large replies."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_PAGE = 1000
"""The most keys of one reply."""

ValueChange = Put | Swap | AddMember | Delete | Expire


class Values:
    """Operations on keys in their stored form. Only the listing decodes the escape."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> str | Awaitable[str]:
        """A value, at once if it needs no waiting."""
        at_hand = self._store.value_at_hand
        value = False if at_hand is None else at_hand(key, LARGE_REPLY)
        if value is False:
            return self._get_large(key)
        return "NULL" if value is None else value

    async def _get_large(self, key: str) -> str:
        value = await self._store.get(key)
        return "NULL" if value is None else value

    async def members(self, key: str) -> str:
        """All members of a set."""
        return ",".join(await self._store.members(key))

    async def change(self, frame: Frame) -> str:
        """Carry out a request with a change."""
        change = change_of(frame.opcode, frame.payload)
        assert change is not None
        stored = self._store.journal.write(change)
        self._store.journal.commit()
        return reply_to(frame.opcode, await stored)

    async def keys(self, payload: bytes) -> str:
        """A page of the keys with a prefix, as their owners wrote them, in order."""
        fields = _fields(payload)
        prefix, after = fields.want("prefix", str), fields.want("after", str)
        found = await self._as_stored(prefix, after)
        escaped = map(_unescaped, await self._store.keys(MARK, "", -1))
        found += [key for key in escaped if key is not None and key.startswith(prefix) and key > after]
        page = sorted(key for key in set(found) if not key.startswith(MARK))
        return write_object(keys=page[:_PAGE], more=len(page) > _PAGE)

    async def _as_stored(self, prefix: str, after: str) -> list[str]:
        """The unescaped keys: more than a page of them if there are so many."""
        found: list[str] = []
        if _storable(prefix) != prefix:
            return found
        start = _storable(after)
        while True:
            some = await self._store.keys(prefix, start, _PAGE + 1)
            found += [key for key in some if not key.startswith(MARK) and key > after]
            if len(some) <= _PAGE or len(found) > _PAGE:
                return found
            # In the store, the escaped keys lie together.
            start = MARK + chr(0x10FFFF) if some[-1].startswith(MARK) else some[-1]


def _unescaped(key: str) -> str | None:
    """The key as its owner wrote it; ``None`` for a key that only begins like an escape, which this SDK does not write."""
    try:
        return decode_value(key)
    except CorruptData:
        return None


def _storable(text: str) -> str:
    """The text up to its first lone surrogate, which only an escaped key may hold."""
    found = _SURROGATE.search(text)
    return text if found is None else text[: found.start()]


def _fields(payload: bytes) -> Fields:
    return read_object(payload.decode("utf-8", "replace"))


# ---------------------------------------------------------------------- changes


def change_of(opcode: int, payload: bytes) -> ValueChange | None:
    """The change that the request asks for; ``None`` if it asks for none.

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
