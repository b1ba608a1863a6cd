"""State in Redis or Valkey: the master that uses it keeps nothing of its own, so the next one may be anywhere.

Written through the journal by whoever holds the lease. Rows of jobs and payloads of unfinished ones are mirrored in
memory; everything else is read when it is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import secrets
from collections.abc import Callable
from typing import Any

from titan_sdk.cluster.clock import Clock
from titan_sdk.cluster.store.base import StoreFailed, Unstorable
from titan_sdk.cluster.store.redis import script
from titan_sdk.cluster.store.redis.journal import RedisJournal
from titan_sdk.cluster.store.redis.lease import Lease, acquire, release
from titan_sdk.cluster.store.redis.link import Link, LostLease
from titan_sdk.cluster.store.redis.loading import load, warn_about
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.cluster.store.redis.mirror import Mirror
from titan_sdk.cluster.store.rows import HistoryRow, JobRow, Service
from titan_sdk.errors import TitanError

__all__ = ["RedisStore", "open_redis", "was_used"]

log = logging.getLogger(__name__)

_GOES = 200
"""Jobs forgotten in one commit."""
_LOOKS = 200
_CLOSE_SECONDS = 10.0


async def open_redis(location: Location) -> RedisStore:
    """Take the lease and load what is there.

    Raises:
        TitanError: it cannot be reached or used, or another master uses it.
    """
    link = Link(location)
    try:
        warn_about(await link.info(), location)
        store = RedisStore(link, await acquire(link))
    except StoreFailed as exc:
        await link.close()
        raise TitanError(str(exc)) from exc
    except BaseException:
        await link.close()
        raise
    try:
        await store.load()
    except StoreFailed as exc:
        await store.close()
        raise TitanError(str(exc)) from exc
    return store


async def was_used(location: Location) -> bool:
    """Whether a master has ever kept its state there.

    Raises:
        TitanError: it cannot be reached or used.
    """
    link = Link(location)
    try:
        return bool(await link.call("EXISTS", link.key("format")))
    except StoreFailed as exc:
        raise TitanError(str(exc)) from exc
    finally:
        await link.close()


class RedisStore:
    """Implements ``Store``. Made by ``open_redis``."""

    def __init__(self, link: Link, lease: Lease) -> None:
        self.link = link
        self._lease = lease
        self._mirror = Mirror()
        self.clock = Clock()
        self._numbers = itertools.count(1)
        self.identity = ""
        """The same for every master of this prefix."""
        self._size = 0
        self._closing = asyncio.Event()
        self._listener: Callable[[str], None] | None = None
        self.journal = RedisJournal(link, lease, self._mirror, self.clock, self._lost)
        self._renewal = asyncio.get_running_loop().create_task(self._renew())

    async def load(self) -> None:
        """Take over what is there; to be called once, first."""
        name = self.link.key("identity")
        await self.link.call("SETNX", name, secrets.token_hex(8))
        self.identity = (await self.link.call("GET", name)).decode()
        orphans = await load(self.link, self._mirror)
        # The version before kept an index of manifests there.
        await self.link.call("DEL", self.link.key("manifests"))
        self._numbers = itertools.count(self._mirror.newest + 1)
        for start in range(0, len(orphans), _LOOKS):
            await self.link.call("HDEL", self.link.key("lines"), *orphans[start : start + _LOOKS])

    def next_seq(self) -> int:
        """See ``Store``."""
        return next(self._numbers)

    # ------------------------------------------------------------------ jobs

    def job(self, job_id: str) -> JobRow | None:
        return self._mirror.job(job_id)

    def line(self, seq: int) -> str:
        try:
            return self._mirror.lines[seq]
        except KeyError as exc:
            raise StoreFailed(f"the store has no payload of job number {seq}") from exc

    def unfinished(self) -> list[JobRow]:
        return [row for row in self._mirror.active() if not row.status.is_terminal]

    def ended_but_alive(self) -> list[JobRow]:
        return [
            row
            for row in self._mirror.active()
            if row.status.is_terminal and row.handle is not None and row.service != Service.LIVE
        ]

    def live_services(self) -> list[JobRow]:
        return [row for row in self._mirror.active() if row.service == Service.LIVE]

    async def history(self, job_id: str) -> list[HistoryRow]:
        found = await self.link.call("LRANGE", self.link.key(f"history:{job_id}"), 0, -1)
        return [HistoryRow(*json.loads(entry)) for entry in found]

    async def finished_before(self, before: float) -> list[tuple[str, int]]:
        found = await self._due(before, "LIMIT", 0, _GOES + 1)
        return found[:_GOES]

    async def count_finished(self, before: float) -> int:
        return len(await self._due(before))

    async def _due(self, before: float, *limit: Any) -> list[tuple[str, int]]:
        ended = self.link.key("ended")
        ids = await self.link.call("ZRANGEBYSCORE", ended, "-inf", f"({before!r}", *limit)
        rows = [row for job_id in ids if (row := self._mirror.job(job_id.decode())) is not None]
        # The newest number stays: the next master counts on from it.
        return [(row.job_id, row.seq) for row in rows if row.seq < self._mirror.newest]

    # ------------------------------------------------------------------ values and sets

    value_at_hand = None

    async def get(self, key: str) -> str | None:
        found = await self.link.run(script.VALUE, _bytes(key), self._now())
        return None if found is None else found.decode()

    async def members(self, key: str) -> list[str]:
        found = await self.link.run(script.MEMBERS, _bytes(key), self._now())
        return [member.decode() for member in found]

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        start = "(" + after if after and after >= prefix else "[" + prefix
        end = "[" + prefix + chr(0x10FFFF)
        found = await self.link.run(script.KEYS, _bytes(start), _bytes(end), limit, self._now())
        return [key.decode() for key in found]

    async def count_expired(self) -> int:
        """See ``Store``."""
        return int(await self.link.call("ZCOUNT", self.link.key("expiry"), "-inf", self._now()))

    def _now(self) -> str:
        return f"{self.clock.now() * 1000:.0f}"

    # ------------------------------------------------------------------ itself

    async def compact(self) -> None:
        """Nothing: the server rewrites its file itself."""

    def size(self) -> int:
        """Memory that the server uses, as it was told a moment ago."""
        return self._size

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """See ``Store``."""
        self._listener = listener

    def _lost(self, why: str) -> None:
        log.error("%s; this one stops", why)
        if self._listener is not None:
            self._listener(why)

    async def _renew(self) -> None:
        while not self._closing.is_set():
            try:
                await self.link.run(script.RENEW, *self._lease.words())
                self._size = int((await self.link.info()).get("used_memory", 0))
            except LostLease as exc:
                self.journal.lose(exc)
                return
            except StoreFailed as exc:
                log.debug("the lease was not renewed: %s", exc)
            except Exception as exc:  # noqa: BLE001 - shown as what nobody expected, and tried again
                message = "the lease was not renewed"
                asyncio.get_running_loop().call_exception_handler({"message": message, "exception": exc})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._lease.seconds / 3):
                    await self._closing.wait()

    async def close(self) -> None:
        """See ``Store``; the lease is given back, so the next master begins at once."""
        if not await self.journal.settle(_CLOSE_SECONDS):
            log.error(
                "not everything could be stored within %g s; the next master does not know it", _CLOSE_SECONDS
            )
        await self.journal.stop()
        # Not cancelled: the client library may swallow that.
        self._closing.set()
        await self._renewal
        if self.journal.lost is None:
            await release(self.link, self._lease)
        await self.link.close()


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeError as exc:
        raise Unstorable(str(exc)) from exc
