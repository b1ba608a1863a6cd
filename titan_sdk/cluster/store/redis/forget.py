"""What goes from TitanStore with jobs that are forgotten. Nobody else writes meanwhile: the caller holds the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from titan_sdk.cluster.store import leftovers
from titan_sdk.cluster.store.redis.mirror import Mirror

__all__ = ["keys_of"]


class Values(Protocol):
    async def get(self, key: str) -> str | None: ...

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]: ...


async def keys_of(jobs: Sequence[tuple[str, int]], mirror: Mirror, values: Values) -> list[str]:
    """Keys of these jobs."""
    keys: list[str] = []
    for job_id, seq in jobs:
        row = mirror.job(job_id)
        if row is None or row.seq != seq:
            continue
        record = leftovers.record_key(job_id)
        if leftovers.is_of_later_submission(await values.get(record), row.ended_at):
            continue  # the id is just being submitted again; what is left goes with its manifest
        keys.append(record)
        keys += await values.keys(leftovers.run_prefix(job_id), "", -1)
    return keys
