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
    """Keys of these jobs, and of DAGs of which no job is known any more."""
    gone = {job_id for job_id, seq in jobs if (row := mirror.job(job_id)) is not None and row.seq == seq}
    keys: list[str] = []
    dags: set[str] = set()
    for job_id in gone:
        record = leftovers.record_key(job_id)
        dags.add(leftovers.dag_of(job_id, await values.get(record)))
        keys.append(record)
        keys += await values.keys(leftovers.run_prefix(job_id), "", -1)
    for dag in sorted(dags):
        manifests = await values.keys(leftovers.manifest_prefix(dag), "", -1)
        kept = 0
        for key in manifests:
            listed = leftovers.listed_jobs(await values.get(key) or "")
            if listed is None or any(job_id in mirror and job_id not in gone for job_id in listed):
                kept += 1
            else:
                keys.append(key)
        if manifests and not kept:
            keys.append(leftovers.latest_key(dag))
    return keys
