"""State in Redis or Valkey. The master keeps no state on its machine, so the next one may run anywhere.

Every commit has a number, and the server remembers the last one with its results. A commit without a reply is sent again
until its outcome is known, and is done once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from titan_sdk.cluster.store.base import Clock
from titan_sdk.cluster.store.changes import Lost, StoreFailed
from titan_sdk.cluster.store.job_table import JobTable, is_settled
from titan_sdk.cluster.store.journal import Batch, Journal
from titan_sdk.cluster.store.redis.client import RedisClient, text_bytes
from titan_sdk.cluster.store.redis.lease import FORMAT, MasterLease, acquire, describe, release
from titan_sdk.cluster.store.redis.listing import Rows
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.cluster.store.redis.rows import decode, encode, words_of
from titan_sdk.cluster.store.rows import DagRow, HistoryRow, JobRow
from titan_sdk.cluster.store.sqlite import listing
from titan_sdk.errors import TitanError
from titan_sdk.wire.listing import List

__all__ = ["RedisStore", "open_redis", "was_used"]

log = logging.getLogger(__name__)

_PAGE = 1000
_RECENT = 50_000
"""The most rows of settled jobs in memory, some 300 bytes each. It exceeds the 20,000 jobs of a request."""
_FORGOTTEN_AT_ONCE = 200
_MANY = 200
"""The number of jobs above which a thread encodes the rows of a submission."""
_CLOSE_SECONDS = 10.0


async def open_redis(location: Location, *, synced: bool = False) -> RedisStore:
    """Take the lease, and load the state.

    Args:
        synced: refuse a server that acknowledges commits before its disk has them.

    Raises:
        TitanError: the server cannot be reached or used, or another master uses it.
    """
    client = RedisClient(location)
    try:
        _warn_about(await client.info(), location)
        if synced:
            await _check_synced(client)
        store = RedisStore(client, await acquire(client))
    except StoreFailed as exc:
        await client.close()
        raise TitanError(str(exc)) from exc
    except BaseException:
        await client.close()
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
    client = RedisClient(location)
    try:
        return bool(await client.call("EXISTS", client.key("format")))
    except StoreFailed as exc:
        raise TitanError(str(exc)) from exc
    finally:
        await client.close()


def _warn_about(info: dict[str, Any], location: Location) -> None:
    """Warn about settings of the server that can lose data.

    Raises:
        StoreFailed: it is a replica.
    """
    where = location.shown
    if info.get("role") == "slave":
        raise StoreFailed(f"the store {where} is a replica, which cannot be written; name the primary")
    if str(info.get("aof_enabled")) == "0":
        log.warning(
            "the store %s keeps no append-only file: when it is restarted, jobs and values are lost; run it with "
            "appendonly yes",
            where,
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        log.warning(
            "the store %s may throw keys away when its memory is full (maxmemory-policy %s); set noeviction",
            where,
            policy,
        )


_SYNCED = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


async def _check_synced(client: RedisClient) -> None:
    """
    Raises:
        StoreFailed: a setting of the server lets it answer before the disk has a commit.
    """
    where = client.location.shown
    for name, wanted in _SYNCED.items():
        found = await client.setting(name)
        if found is None:
            log.warning(
                "the store %s does not allow reading its settings (CONFIG GET), so it was not checked that a "
                "commit is on its disk before it answers, as durability full promises: see to it that it has %s, or "
                "allow its user +config|get",
                where,
                ", ".join(f"{key} {value}" for key, value in _SYNCED.items()),
            )
            return
        if found != wanted:
            raise StoreFailed(
                f"the store {where} has {name} {found}, so it answers before its disk has a commit, and durability "
                f"full is not to be had: run it with {name} {wanted}, or leave durability full out"
            )


class RedisStore:
    """Implements ``Store`` and ``Backend``. Made by ``open_redis``."""

    waits = gathers = True

    def __init__(self, client: RedisClient, lease: MasterLease) -> None:
        self.client = client
        self._lease = lease
        self.table = JobTable()
        self._lines: dict[int, str] = {}
        self._recent: OrderedDict[str, bytes | None] = OrderedDict()
        """The rows of settled jobs that were asked for or have ended lately; ``None`` for unknown ids."""
        self._forgotten = 0
        """The number of commits that have removed jobs."""
        self._listed = Rows(self._scan)
        self.clock = Clock()
        self._committed = lease.last
        self._newest = lease.newest
        self._numbers = itertools.count(1)
        self.identity = ""
        """The cluster's id, the same for every master of this prefix."""
        self._size = 0
        self._closing = asyncio.Event()
        self._listener: Callable[[str], None] | None = None
        loop = asyncio.get_running_loop()
        self.journal = Journal(self, self.table, loop, self._lost, self._settled)
        self._renewal = loop.create_task(self._renew())

    async def load(self) -> None:
        """Load the state. Called once, before all else."""
        call, key = self.client.call, self.client.key
        await call("SETNX", key("identity"), secrets.token_hex(8))
        self.identity = (await call("GET", key("identity"))).decode()
        if self._lease.upgrade:
            await self._take_over_format_1()
        async for job_id, stored in self._scan("active"):
            self.table.keep(decode(job_id.decode(), stored))
        numbers = [row.seq for row in self.table.rows()]
        for start in range(0, len(numbers), _PAGE):
            some = numbers[start : start + _PAGE]
            lines = zip(some, await call("HMGET", key("lines"), *some), strict=True)
            self._lines |= {seq: line.decode() for seq, line in lines if line is not None}
        # The parents of waiting jobs.
        await self.bring(parent for row in self.table.unfinished() for parent, _ in row.parents)
        self._numbers = itertools.count(self._newest + 1)

    async def _take_over_format_1(self) -> None:
        """Convert the earlier format, with one hash for all rows and an index of manifests. Repeated if it is interrupted."""
        call, key = self.client.call, self.client.key
        moved: list[JobRow] = []
        async for name, stored in self._scan("jobs"):
            row = decode(name.decode(), stored)
            self._newest = max(self._newest, row.seq)
            if not is_settled(row):
                moved.append(row)
        for start in range(0, len(moved), _PAGE):
            rows = {text_bytes(row.job_id): encode(row) for row in moved[start : start + _PAGE]}
            await call("HSET", key("active"), *itertools.chain.from_iterable(rows.items()))
            await call("HDEL", key("jobs"), *rows)
        active = {decode(name.decode(), stored).seq async for name, stored in self._scan("active")}
        self._newest = max(self._newest, *active, 0)
        # The payloads of a submission during which a master was killed.
        orphans = [field for field in await call("HKEYS", key("lines")) if int(field) not in active]
        for start in range(0, len(orphans), _PAGE):
            await call("HDEL", key("lines"), *orphans[start : start + _PAGE])
        await call("DEL", key("manifests"))
        await call("HSET", key("last"), "newest", self._newest)
        await call("SET", key("format"), FORMAT)

    async def _scan(self, name: str) -> AsyncIterator[tuple[bytes, bytes]]:
        cursor = 0
        while True:
            cursor, found = await self.client.call("HSCAN", self.client.key(name), cursor, "COUNT", _PAGE)
            for item in found.items():
                yield item
            if int(cursor) == 0:
                return

    def next_seq(self) -> int:
        return next(self._numbers)

    # ------------------------------------------------------------------ writing

    def commit(self, batch: Batch) -> Awaitable[list[object]]:
        return self._commit(batch, words_of(batch) if len(batch.inserts) <= _MANY else None)

    async def _commit(self, batch: Batch, words: list[Any] | None) -> list[object]:
        if words is None:
            words = await asyncio.to_thread(words_of, batch)
        number, now = self._committed + 1, self._now()
        try:
            reply = await self.client.run_once("commit", *self._lease.words(), number, now, *words)
        except Lost as exc:
            raise self._why(exc) from exc
        self._committed = number
        self._forgotten += bool(batch.forgets)
        self._listed.note(batch)
        for job_id in (*(name for name, _ in batch.forgets), *(job.job_id for job in batch.inserts)):
            self._recent.pop(job_id, None)
        for job in batch.inserts:
            self._newest = max(self._newest, job.seq)
            self._lines[job.seq] = job.line
        # Lua encodes an empty table as an object, not as a list.
        return list(json.loads(reply) or [])

    def _settled(self, rows: list[JobRow]) -> None:
        for row in rows:
            self._lines.pop(row.seq, None)
            self._keep_recent(row.job_id, encode(row))

    def _why(self, exc: Lost) -> Lost:
        where = f"{self.client.location.shown} under the prefix {self.client.location.prefix!r}"
        if str(exc) == "emptied":
            return Lost(f"the store {where} was emptied or restored while this master used it")
        if str(exc).startswith("the store"):
            return exc
        return Lost(f"another master ({describe(str(exc))}) has taken over {where}")

    # ------------------------------------------------------------------ jobs

    def job(self, job_id: str) -> JobRow | None:
        row = self.table.get(job_id)
        stored = None if row is not None else self._recent.get(job_id)
        return row if stored is None else decode(job_id, stored)

    def is_at_hand(self, job_id: str) -> bool:
        return self.table.get(job_id) is not None or job_id in self._recent

    async def bring(self, job_ids: Iterable[str]) -> None:
        missing = [job_id for job_id in dict.fromkeys(job_ids) if not self.is_at_hand(job_id)]
        for start in range(0, len(missing), _PAGE):
            await self._bring(missing[start : start + _PAGE])

    async def _bring(self, job_ids: list[str]) -> None:
        """Read rows. Rows are read again if jobs were removed meanwhile."""
        texts = {job_id: text_bytes(job_id) for job_id in job_ids if _is_text(job_id)}
        found: dict[str, bytes | None] = dict.fromkeys(job_ids)
        before = -1
        while texts and before != self._forgotten:
            before = self._forgotten
            rows = await self.client.call("HMGET", self.client.key("jobs"), *texts.values())
            found |= zip(texts, rows, strict=True)
        for job_id, row in found.items():
            if not self.is_at_hand(job_id):
                self._keep_recent(job_id, row)

    def _keep_recent(self, job_id: str, row: bytes | None) -> None:
        self._recent[job_id] = row
        self._recent.move_to_end(job_id)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def line(self, seq: int) -> str:
        try:
            return self._lines[seq]
        except KeyError as exc:
            raise StoreFailed(f"the store has no payload of job number {seq}") from exc

    async def history(self, job_id: str) -> list[HistoryRow]:
        found = await self.client.call("LRANGE", self.client.key(f"history:{job_id}"), 0, -1)
        return [HistoryRow(*json.loads(entry)) for entry in found]

    async def listed(self, request: List) -> list[JobRow]:
        return await listing.page(await self._listed.ready(), request)

    async def count_listed(self, request: List) -> int:
        return await listing.count(await self._listed.ready(), request)

    async def dag(self, name: str, run: str) -> list[DagRow]:
        return listing.dag(await self._listed.ready(), name, run)

    async def finished_before(self, before: float) -> list[tuple[str, int]]:
        found = await self._due(before, "LIMIT", 0, _FORGOTTEN_AT_ONCE + 1)
        return found[:_FORGOTTEN_AT_ONCE]

    async def count_finished(self, before: float) -> int:
        return len(await self._due(before))

    async def _due(self, before: float, *limit: Any) -> list[tuple[str, int]]:
        call, key = self.client.call, self.client.key
        ids = await call("ZRANGEBYSCORE", key("ended"), "-inf", f"({before!r}", *limit)
        found: list[tuple[str, int]] = []
        for start in range(0, len(ids), _PAGE):
            some = ids[start : start + _PAGE]
            for job_id, stored in zip(some, await call("HMGET", key("jobs"), *some), strict=True):
                if stored is not None:
                    found.append((job_id.decode(), int(json.loads(stored)[0])))
        # The job with the highest number stays, as in every store.
        return [(job_id, seq) for job_id, seq in found if seq < self._newest]

    # ------------------------------------------------------------------ values and sets

    value_at_hand = None

    async def get(self, key: str) -> str | None:
        found = await self.client.run("value", self._now(), text_bytes(key))
        return None if found is None else found.decode()

    async def members(self, key: str) -> list[str]:
        found = await self.client.run("members", self._now(), text_bytes(key))
        return [member.decode() for member in found]

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        start = "(" + after if after and after >= prefix else "[" + prefix
        end = "[" + prefix + chr(0x10FFFF)
        found = await self.client.run("keys", self._now(), text_bytes(start), text_bytes(end), limit)
        return [key.decode() for key in found]

    async def count_expired(self) -> int:
        return int(await self.client.call("ZCOUNT", self.client.key("expiry"), "-inf", self._now()))

    def _now(self) -> str:
        return f"{self.clock.now() * 1000:.0f}"

    # ------------------------------------------------------------------ itself

    async def compact(self) -> None:
        """Nothing to do: the server rewrites its file itself."""

    def size(self) -> int:
        """The memory that the server uses, as it reported a moment ago."""
        return self._size

    def on_lost(self, listener: Callable[[str], None]) -> None:
        self._listener = listener

    def _lost(self, why: str) -> None:
        log.error("%s; this one stops", why)
        if self._listener is not None:
            self._listener(why)

    async def _renew(self) -> None:
        while not self._closing.is_set():
            try:
                await self.client.run("renew", *self._lease.words())
                self._size = int((await self.client.info()).get("used_memory", 0))
            except Lost as exc:
                self.journal.lose(self._why(exc))
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
        """Store pending changes, and give the lease back, so that the next master begins at once."""
        if not await self.journal.close(_CLOSE_SECONDS):
            log.error(
                "not everything could be stored within %g s; the next master does not know it", _CLOSE_SECONDS
            )
        # Not cancelled: the client library may swallow the cancellation.
        self._closing.set()
        await self._renewal
        if self.journal.lost is None:
            await release(self.client, self._lease)
        await self.client.close()
        self._listed.close()


def _is_text(job_id: str) -> bool:
    """Whether a job can have such an id."""
    try:
        job_id.encode()
    except UnicodeError:
        return False
    return True
