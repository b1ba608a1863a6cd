"""Values over a pipe between the front and its bridge: both are this program, so pickle is safe."""

from __future__ import annotations

import asyncio
import pickle
from typing import IO, Any

__all__ = ["dump", "read", "receive"]

_HEAD = 8


def dump(value: object) -> bytes:
    """A frame."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(_HEAD, "big") + data


def read(file: IO[bytes]) -> Any:
    """The next value, waited for.

    Raises:
        EOFError: the other side is gone.
    """
    head = file.read(_HEAD)
    size = int.from_bytes(head, "big")
    data = file.read(size) if len(head) == _HEAD else b""
    if len(head) < _HEAD or len(data) < size:
        raise EOFError("the other side of the bridge is gone")
    return pickle.loads(data)


async def receive(reader: asyncio.StreamReader) -> Any:
    """As ``read``.

    Raises:
        EOFError: the other side is gone (``asyncio.IncompleteReadError`` is one).
    """
    size = int.from_bytes(await reader.readexactly(_HEAD), "big")
    return pickle.loads(await reader.readexactly(size))
