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
    left = None
    while True:
        found = await link.run(script.ACQUIRE, token, int(seconds * 1000), who, script.FORMAT)
        if found[0] == b"taken":
            return Lease(token, int(found[1]), who, seconds, int(found[2]))
        where = f"{link.location.shown} under the prefix {link.location.prefix!r}"
        if found[0] == b"format":
            raise TitanError(
                f"the master's state in {where} has format {found[1].decode()}; this version reads format "
                f"{script.FORMAT}. Use the version that wrote it, or give another prefix"
            )
        remaining = max(int(found[2]), 0) / 1000
        if left is not None and remaining > left:
            raise TitanError(
                f"another master ({describe(found[1])}) uses {where} and has just renewed its lease, for "
                f"{remaining:.1f} s; stop it, or give this one another prefix"
            )
        if left is None:
            log.warning(
                "the lease on %s is held by %s; if that master is gone, it ends in %.1f s",
                where,
                describe(found[1]),
                remaining,
            )
        left = remaining
        await asyncio.sleep(min(remaining, seconds / 10) + _PATIENCE * seconds / 10)


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
