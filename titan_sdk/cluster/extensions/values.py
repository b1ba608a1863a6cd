"""STORE_DELETE, STORE_KEYS, STORE_SWAP and STORE_EXPIRE: what TitanStore lacks in Titan v1."""

from __future__ import annotations

from titan_sdk.cluster.store.sqlite import SqliteStore
from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.extensions import Fields, StoreSwap, read_object, write_object
from titan_sdk.wire.store_text import MARK, decode_value

__all__ = ["Values"]

_PAGE = 1000
"""Keys in one reply."""


class Values:
    """Operations on keys as they are stored; only listing looks behind the escape."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def delete(self, payload: bytes) -> str:
        """Remove a value or a set."""
        return write_object(deleted=await self._store.delete(_fields(payload).want("key", str)))

    async def keys(self, payload: bytes) -> str:
        """Keys that begin with a prefix, as their owners wrote them, in order and in pages."""
        fields = _fields(payload)
        prefix, after = fields.want("prefix", str), fields.want("after", str)
        found = self._store.keys(prefix, after, _PAGE + 1)
        escaped = (decode_value(key) for key in self._store.keys(MARK, "", -1))
        found += [key for key in escaped if key.startswith(prefix) and key > after]
        page = sorted(key for key in set(found) if not key.startswith(MARK))
        return write_object(keys=page[:_PAGE], more=len(page) > _PAGE)

    async def swap(self, payload: bytes) -> str:
        """Compare and set."""
        request = StoreSwap.decode(payload.decode("utf-8", "replace"))
        return write_object(swapped=await self._store.swap(request.key, request.expected, request.value))

    async def expire(self, payload: bytes) -> str:
        """Delete a key after some time; the next write of the key takes that back."""
        fields = _fields(payload)
        seconds = fields.want("seconds", float)
        if not seconds > 0:
            raise PeerProtocolError(f"seconds {seconds!r} is not a number above 0")
        return write_object(set=await self._store.expire(fields.want("key", str), seconds))


def _fields(payload: bytes) -> Fields:
    return read_object(payload.decode("utf-8", "replace"))
