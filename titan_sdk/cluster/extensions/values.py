"""STORE_KEYS: the keys of TitanStore, which Titan v1 cannot list."""

from __future__ import annotations

import re

from titan_sdk.cluster.store.base import Store
from titan_sdk.errors import CorruptData
from titan_sdk.wire.extensions import Fields, read_object, write_object
from titan_sdk.wire.store_text import MARK, decode_value

__all__ = ["Values"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_PAGE = 1000
"""Keys in one reply."""


class Values:
    """Operations on keys as they are stored; only listing looks behind the escape."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keys(self, payload: bytes) -> str:
        """Keys that begin with a prefix, as their owners wrote them, in order and in pages."""
        fields = _fields(payload)
        prefix, after = fields.want("prefix", str), fields.want("after", str)
        found = await self._as_stored(prefix, after)
        escaped = map(_unescaped, await self._store.keys(MARK, "", -1))
        found += [key for key in escaped if key is not None and key.startswith(prefix) and key > after]
        page = sorted(key for key in set(found) if not key.startswith(MARK))
        return write_object(keys=page[:_PAGE], more=len(page) > _PAGE)

    async def _as_stored(self, prefix: str, after: str) -> list[str]:
        """Those that are stored as they are, more than a page of them if there are so many."""
        found: list[str] = []
        if _storable(prefix) != prefix:
            return found
        start = _storable(after)
        while True:
            some = await self._store.keys(prefix, start, _PAGE + 1)
            found += [key for key in some if not key.startswith(MARK) and key > after]
            if len(some) <= _PAGE or len(found) > _PAGE:
                return found
            # As they are stored, the escaped ones lie together.
            start = MARK + chr(0x10FFFF) if some[-1].startswith(MARK) else some[-1]


def _unescaped(key: str) -> str | None:
    """The key as its owner wrote it; ``None`` for what only begins like an escape, which no client of ours has written."""
    try:
        return decode_value(key)
    except CorruptData:
        return None


def _storable(text: str) -> str:
    """The text up to the first half of a surrogate pair, which only an escaped key may hold."""
    found = _SURROGATE.search(text)
    return text if found is None else text[: found.start()]


def _fields(payload: bytes) -> Fields:
    return read_object(payload.decode("utf-8", "replace"))
