"""The lease: one master per prefix. Every write checks it; its epoch grows with every new holder."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import time
from dataclasses import dataclass

from titan_sdk.cluster.store.changes import StoreFailed
from titan_sdk.cluster.store.redis.client import RedisClient
from titan_sdk.errors import TitanError

__all__ = ["MasterLease", "acquire", "describe", "release"]

log = logging.getLogger(__name__)

FORMAT, _OLDER = "2", "1"
_PATIENCE = 0.25
"""Seconds to wait beyond the end of a lease that is not renewed."""


@dataclass(frozen=True, slots=True)
class MasterLease:
    token: str
    epoch: int
    who: str
    seconds: float
    last: int
    """The number of the last commit when the lease was taken."""
    newest: int
    """The highest job number at that time."""
    upgrade: bool
    """Whether the data has the earlier format."""

    def words(self) -> tuple[str | int, ...]:
        """The arguments by which the script checks the lease."""
        return self.token, self.epoch, int(self.seconds * 1000), self.who


async def acquire(client: RedisClient) -> MasterLease:
    """Take the lease. Waits until the lease of a dead master has run out.

    Raises:
        TitanError: another master holds it, the data is of another format, or the server has lost commits and the
            location does not accept that.
        StoreFailed: the store cannot be read.
    """
    location = client.location
    token = secrets.token_hex(16)
    who = json.dumps(
        {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    )
    waiting = _Waiting(client)
    ms, accept = int(location.lease_seconds * 1000), int(location.accept_lost_commits)
    while True:
        found = await client.run("acquire", token, ms, who, FORMAT, _OLDER, waiting.stale, accept)
        if found[0] == b"taken":
            epoch, last, newest, upgrade = found[1:]
            numbers = int(epoch), who, location.lease_seconds, int(last), int(newest)
            return MasterLease(token, *numbers, bool(upgrade))
        if found[0] == b"format":
            raise TitanError(
                f"the master's state in {waiting.where} has format {found[1].decode()}; this version reads format "
                f"{FORMAT} or older. Use the version that wrote it, or give another prefix"
            )
        if found[0] == b"lost":
            raise TitanError(
                f"the store {waiting.where} has lost commits {found[1].decode()}, which it had acknowledged to the last "
                "master: jobs that were taken or have ended may be missing in it. Restore it; or start with "
                "--accept-lost-commits to go on with what it has"
            )
        await asyncio.sleep(waiting.look(*found[1:]))


class _Waiting:
    """Detects whether a lease's holder is gone, by its count of renewals and this machine's monotonic clock."""

    def __init__(self, client: RedisClient) -> None:
        self.where = f"{client.location.shown} under the prefix {client.location.prefix!r}"
        self.stale = b""
        """The holder and its count, after a full lease time without renewal."""
        self._pause = client.location.lease_seconds / 10
        self._seen: bytes | None = None
        self._since = time.monotonic()

    def look(self, holder: bytes, seen: bytes, lasts: bytes) -> float:
        """The seconds to wait before the next check.

        Raises:
            TitanError: the lease was renewed.
        """
        remaining = max(self._since + int(lasts) / 1000 - time.monotonic(), 0.0)
        if self._seen is None:
            log.warning(
                "the lease on %s is held by %s; if that master is gone, it ends in %.1f s",
                *(self.where, describe(holder), remaining),
            )
        elif seen != self._seen:
            raise TitanError(
                f"another master ({describe(holder)}) uses {self.where} and has just renewed its lease, for "
                f"{int(lasts) / 1000:.1f} s; stop it, or give this one another prefix"
            )
        elif remaining == 0.0:
            self.stale = seen
        self._seen = seen
        return min(remaining, self._pause) + _PATIENCE * self._pause


def describe(who: bytes | str) -> str:
    """A sentence part that describes the holder."""
    try:
        found = json.loads(who)
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (ValueError, KeyError, TypeError):
        return "unknown"


async def release(client: RedisClient, lease: MasterLease) -> None:
    """Give the lease back, so that the next master begins at once. Without an answer it waits for the lease's end."""
    try:
        await client.run("release", lease.token)
    except StoreFailed as exc:
        log.warning("the lease on the store was not given back: %s", exc)
