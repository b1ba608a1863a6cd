"""Connecting by name with a cache of addresses. A real master takes one request per connection, so a polling client
connects thousands of times to the same host and must not ask the resolver each time.
"""

from __future__ import annotations

import contextlib
import socket
import time

__all__ = ["REMEMBER_SECONDS", "open_tcp"]

REMEMBER_SECONDS = 30.0
"""Seconds for which a working address is tried first. A failing one is forgotten, and the name is resolved again."""

_Place = tuple[str, int]

# Entries are replaced as a whole, so threads need no lock. A lost entry costs one look-up.
_known: dict[_Place, tuple[float, socket.AddressFamily, tuple[object, ...]]] = {}


def open_tcp(host: str, port: int, seconds: float) -> socket.socket:
    """A connected socket with that timeout set.

    Raises:
        OSError: the name is unknown, or none of its addresses answers in time.
    """
    place = (host, port)
    found = _known.get(place)
    if found is not None and time.monotonic() - found[0] < REMEMBER_SECONDS:
        try:
            return _connect(found[1], found[2], seconds)
        except OSError:
            _known.pop(place, None)
    opened = socket.create_connection(place, seconds)
    with contextlib.suppress(OSError):  # the peer has already closed it; the first read reports that
        _known[place] = (time.monotonic(), opened.family, opened.getpeername())
    return opened


def _connect(family: socket.AddressFamily, address: tuple[object, ...], seconds: float) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.settimeout(seconds)
        opened.connect(address)
    except BaseException:
        opened.close()
        raise
    return opened
