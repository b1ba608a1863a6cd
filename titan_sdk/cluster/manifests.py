"""Forgetting manifests, and what submissions have left that no job of the master leads to any more.

A manifest is first looked at when it is as old as an ended job may get, as a submission writes it before its jobs.
The store finds those that are due by an index, so that the others cost nothing.
"""

from __future__ import annotations

import asyncio

from titan_sdk.cluster.store import leftovers
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import Change, Delete, LookAgain, Swap
from titan_sdk.model.rules import full_id

__all__ = ["forget_manifests"]

Listed = list[tuple[str, str | None]]

_SUBMIT_SECONDS = 600.0
"""A job that was submitted longer after a manifest than this is of a later submission under the same id."""
_AT_ONCE = 100
"""Jobs of a manifest that are looked at while everybody else waits."""


async def forget_manifests(before: float, store: Store) -> None:
    """Remove the manifests that were written before that time and whose jobs are all forgotten.

    Raises:
        StoreFailed: some of them are still there.
    """
    while due := await store.manifests_before(before):
        for key, written in due:
            await store.journal.write(*await _look(store, key, written, before))


async def _look(store: Store, key: str, written: float, before: float) -> list[Change]:
    """What becomes of a manifest that is due. A text that is written anew meanwhile stays."""
    value, done = await store.get(key), LookAgain(key, before, None)
    if value is None:
        return [done]
    latest = leftovers.latest_of(key)
    if latest is None:
        named = leftovers.manifest_named(key, value)
        lost = named is not None and await store.get(named) is None
        # Otherwise it goes with the manifest that it names.
        return [Swap(key, value, None), done] if lost else [done]
    jobs = leftovers.listed_jobs(value)
    if jobs is None:
        return [done]
    end = await _last_end(store, jobs, written)
    if end is not None:
        return [LookAgain(key, before, max(end, before))]
    for job_id, nonce in jobs:
        if nonce:
            await _forget_values(store, full_id(job_id), nonce)
    named = await store.get(latest)
    if named is not None and leftovers.manifest_named(latest, named) == key:
        return [Swap(key, value, None), Swap(latest, named, None), LookAgain(latest, before, None), done]
    return [Swap(key, value, None), done]


async def _last_end(store: Store, jobs: Listed, written: float) -> float | None:
    """When the last of these jobs has ended, or now; ``None`` if none of them is known."""
    last = None
    for number, (listed, _) in enumerate(jobs):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        for job_id in leftovers.known_as(listed):
            row = store.job(job_id)
            if row is None or row.submitted_at > written + _SUBMIT_SECONDS:
                continue
            if row.ended_at is None or not row.status.is_terminal:
                return store.clock.now()
            last = max(last or 0.0, row.ended_at)
    return last


async def _forget_values(store: Store, job_id: str, nonce: str) -> None:
    """Of a submission that was refused, or whose id was used again: nothing else leads to them."""
    changes: list[Change] = []
    record = await store.get(leftovers.record_key(job_id))
    if record is not None and leftovers.nonce_of(record) == nonce:
        changes.append(Swap(leftovers.record_key(job_id), record, None))
    changes += [Delete(key) for key in await store.keys(leftovers.run_prefix(job_id, nonce), "", -1)]
    if changes:
        await store.journal.write(*changes)
    else:
        await asyncio.sleep(0)
