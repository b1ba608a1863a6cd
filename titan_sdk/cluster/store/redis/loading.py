"""What a master reads when it begins, and what it says about a server that may lose things."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from titan_sdk.cluster.store.base import StoreFailed
from titan_sdk.cluster.store.redis.link import Link
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.cluster.store.redis.mirror import Mirror, decode, needs_line

__all__ = ["load", "warn_about"]

log = logging.getLogger(__name__)

_PAGE = 1000


async def load(link: Link, mirror: Mirror) -> tuple[int, ...]:
    """Fill the mirror; the numbers of payloads that a submission has left during which a master died."""
    async for job_id, stored in _scan(link, "jobs"):
        row = decode(job_id.decode(), stored)
        mirror.keep(row, stored)
    wanted = {row.seq for row in mirror.active() if needs_line(row)}
    numbers = sorted(wanted)
    for start in range(0, len(numbers), _PAGE):
        some = numbers[start : start + _PAGE]
        lines = await link.call("HMGET", link.key("lines"), *some)
        mirror.lines.update(
            {seq: line.decode() for seq, line in zip(some, lines, strict=True) if line is not None}
        )
    stored = await link.call("HKEYS", link.key("lines"))
    return tuple(number for field in stored if (number := int(field)) not in wanted)


async def _scan(link: Link, name: str) -> AsyncIterator[tuple[bytes, bytes]]:
    cursor = 0
    while True:
        cursor, found = await link.call("HSCAN", link.key(name), cursor, "COUNT", _PAGE)
        for place in range(0, len(found), 2):
            yield found[place], found[place + 1]
        if int(cursor) == 0:
            return


def warn_about(info: dict[str, str], location: Location) -> None:
    """Say what of the server's settings loses data.

    Raises:
        StoreFailed: it is a replica.
    """
    where = location.shown
    if info.get("role") == "slave":
        raise StoreFailed(f"the store {where} is a replica, which cannot be written; name the primary")
    if info.get("aof_enabled") == "0":
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
