"""One master per prefix: a lease that every write checks, and an epoch that grows whenever it changes hands."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import time
from dataclasses import dataclass

from titan_sdk.cluster.store.base import StoreFailed
from titan_sdk.cluster.store.redis import script
from titan_sdk.cluster.store.redis.link import Link
from titan_sdk.errors import TitanError

__all__ = ["Lease", "acquire", "describe"]

log = logging.getLogger(__name__)

_PATIENCE = 0.25
"""Seconds beyond the end of a lease that nobody renews."""


@dataclass(frozen=True, slots=True)
class Lease:
    token: str
    epoch: int
    who: str
    seconds: float
    last: int
    """The number of the last commit when it was taken."""

    def words(self) -> tuple[str | int, ...]:
        """How a script is told who asks."""
        return self.token, self.epoch, int(self.seconds * 1000), self.who


async def acquire(link: Link) -> Lease:
    """Become the writer; waits while the lease of a master that is gone runs out.

    Raises:
        TitanError: another master holds it, or the data is of another format.
        StoreFailed: the store cannot be asked.
    """
    seconds = link.location.lease_seconds
    token = secrets.token_hex(16)
    who = json.dumps(
        {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    )
    waiting = _Waiting(link)
    while True:
        found = await link.run(script.ACQUIRE, token, int(seconds * 1000), who, script.FORMAT, waiting.stale)
        if found[0] == b"taken":
            return Lease(token, int(found[1]), who, seconds, int(found[2]))
        if found[0] == b"format":
            raise TitanError(
                f"the master's state in {waiting.where} has format {found[1].decode()}; this version reads format "
                f"{script.FORMAT}. Use the version that wrote it, or give another prefix"
            )
        await asyncio.sleep(waiting.look(*found[1:]))


class _Waiting:
    """Whether the holder of a lease is gone, told by its count of renewals and this machine's monotonic clock. Only
    holders of an older version, which count nothing, are told by what is left of the key's time.
    """

    def __init__(self, link: Link) -> None:
        self.where = f"{link.location.shown} under the prefix {link.location.prefix!r}"
        self.stale = b""
        """The holder and its count, once it has not been renewed for as long as it lasts."""
        self._seconds = link.location.lease_seconds
        self._seen: bytes | None = None
        self._left = 0.0
        self._since = time.monotonic()

    def look(self, holder: bytes, left: int, seen: bytes, lasts: bytes) -> float:
        """How long to wait before the next look.

        Raises:
            TitanError: it was renewed.
        """
        now, remaining = time.monotonic(), max(left, 0) / 1000
        if lasts:
            remaining = max(self._since + int(lasts) / 1000 - now, 0.0)
        if self._seen is None:
            log.warning(
                "the lease on %s is held by %s; if that master is gone, it ends in %.1f s",
                *(self.where, describe(holder), remaining),
            )
        elif seen != self._seen or (not seen and remaining > self._left):
            raise TitanError(
                f"another master ({describe(holder)}) uses {self.where} and has just renewed its lease, for "
                f"{remaining:.1f} s; stop it, or give this one another prefix"
            )
        elif seen and remaining == 0.0:
            self.stale = seen
        self._seen, self._left = seen, remaining
        return min(remaining, self._seconds / 10) + _PATIENCE * self._seconds / 10


def describe(who: bytes | str) -> str:
    """A holder in words."""
    try:
        found = json.loads(who)
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (ValueError, KeyError, TypeError):
        return "unknown"


async def release(link: Link, lease: Lease) -> None:
    """Let the next master begin at once; without an answer it waits until the lease has run out."""
    try:
        await link.run(script.RELEASE, lease.token)
    except StoreFailed as exc:
        log.warning("the lease on the store was not given back: %s", exc)
