"""What a master does so that nothing grows without bound: logs, finished jobs, their values and manifests, expired keys,
and the files that traveled with jobs.

Finished jobs are looked for with every sweep. Manifests are looked through once a day, a page at a time: a submission
writes its manifest before its jobs, so some lead to jobs that the master never took, and some to none any more.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from titan_sdk.cluster import sdk_keys
from titan_sdk.cluster.artifacts import Area
from titan_sdk.cluster.folders import DataDir, safe_name
from titan_sdk.cluster.logs import LogStore
from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.storage import open_storage
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import Change, Delete, ForgetJobs, RemoveMember, StoreFailed, Swap, Sweep
from titan_sdk.cluster.store.redis.store import was_used
from titan_sdk.errors import InvalidArgument, TitanError
from titan_sdk.model import gates
from titan_sdk.model.rules import GATE_PREFIX, full_id, short_id
from titan_sdk.runtime.bundle import CONTENT_NAME, part_asset
from titan_sdk.wire.fields import encode_key, encode_member

__all__ = ["Collected", "Housekeeping", "collect", "forget_before", "forget_manifests"]

LOG_SECONDS = 1.0
SCAN_SECONDS = 86_400.0
_STOP_SECONDS = 1.0
_SUBMIT_SECONDS = 600.0
"""A job that was submitted longer after a manifest than this is of a later submission under the same id."""
_PAGE = 100
"""Manifests that are listed, and jobs of one that are looked at, while everybody else waits."""
_ASIDE = "forgotten."
_BASE64 = re.compile(r"[A-Za-z0-9+/]{64,}={0,2}")
"""In a job's line, what may be its script."""


class Housekeeping:
    """The two periodic tasks of a master: cutting logs and removing old data."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._next_scan = 0.0

    def start(self) -> None:
        settings = self._master.settings
        self._tasks = [
            asyncio.create_task(self._every("cutting long logs", LOG_SECONDS, self.limit_logs)),
            asyncio.create_task(self._every("removing what is old", settings.sweep_seconds, self.sweep)),
        ]

    async def stop(self) -> None:
        self._stopping = True
        left = set(self._tasks)
        while left:
            # More than once: the client library of Redis waits with wait_for, which in Python 3.11 may swallow it.
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=_STOP_SECONDS)

    async def _every(self, what: str, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception as exc:  # noqa: BLE001 - a full disk, say, or a fault of ours: the next round tries again
                self._master.state.problems.report(what, exc)
            else:
                self._master.state.problems.over(what)

    async def limit_logs(self) -> None:
        """Cut the logs of running jobs."""
        running = self._master.running()
        if running:
            await self._master.state.logs.limit(running)

    async def sweep(self) -> None:
        """Remove expired keys and old finished jobs, a few at a time; once a day also manifests."""
        store, keep = self._master.state.store, self._master.settings.keep_finished_seconds
        await store.journal.write(Sweep())
        if keep is None:
            return
        now = self._master.state.clock.now()
        master = self._master
        await forget_jobs(now - keep, store, master.state.logs, master.data, master.uploads)
        if now >= self._next_scan:
            await forget_manifests(now - keep, store)
            await forget_uploads(time.time() - keep, store, master.uploads)
            # With a retention of less than a day, manifests are scanned more often.
            self._next_scan = now + min(SCAN_SECONDS, keep)


async def forget_before(before: float, store: Store, logs: LogStore, data: DataDir, uploads: Area) -> None:
    """Remove jobs that ended before that time with all that is left of them, manifests of which no job is left, and files
    that traveled with jobs.

    Raises:
        StoreFailed, OSError: some of them are still there.
    """
    await forget_jobs(before, store, logs, data, uploads)
    await forget_manifests(before, store)
    await forget_uploads(before, store, uploads)


# ---------------------------------------------------------------------- jobs


async def forget_jobs(before: float, store: Store, logs: LogStore, data: DataDir, uploads: Area) -> None:
    """Remove jobs that ended before that time, with their logs, folders, values and artifacts.

    Raises:
        StoreFailed, OSError: some of them are still there.
    """
    while old := await store.finished_before(before):
        # Files are removed first, so that a crash in between is repaired by the next round.
        workspaces = [path for path in data.workers.glob("*/titan_workspace") if path.is_dir()]
        for job_id, seq in old:
            await store.bring((job_id,))
            row = store.job(job_id)
            if row is not None and row.seq == seq:
                # In one turn with that look: afterwards the id may be another submission's, with files of its own.
                logs.drop(job_id)
                _put_aside(workspaces, job_id)
            await asyncio.sleep(0)
        await asyncio.to_thread(_empty, workspaces)
        changes: list[Change] = []
        for job_id, seq in old:
            changes += await _left_by(store, job_id, seq)
        runs = frozenset(
            filter(None, (sdk_keys.artifacts_of(c.key) for c in changes if isinstance(c, Delete)))
        )
        if runs:
            await asyncio.to_thread(_remove_artifacts, uploads, runs)
        await store.journal.write(*changes, ForgetJobs(tuple(old)))


async def _left_by(store: Store, job_id: str, seq: int) -> list[Change]:
    """The changes that remove a finished job's values, without those of a submission under way."""
    # Listed before the record is read: a submission writes its record first, so none of its keys is in the list then.
    keys = await store.keys(sdk_keys.run_prefix(job_id), "", -1)
    record = await store.get(sdk_keys.record_key(job_id))
    await store.bring((job_id,))
    row = store.job(job_id)
    if row is None or row.seq != seq or sdk_keys.is_of_later_submission(record, row.ended_at):
        return []
    changes: list[Change] = [Delete(key) for key in keys]
    if record is not None:
        changes.append(Swap(sdk_keys.record_key(job_id), record, None))
    gate = short_id(job_id)
    if gate.startswith(GATE_PREFIX):
        names = gates.status_key(gate), gates.message_key(gate), gates.since_key(gate)
        changes += [Delete(encode_key(name)) for name in names]
        changes.append(RemoveMember(gates.QUEUE_KEY, encode_member(gate)))
    return changes


def _put_aside(workspaces: Iterable[Path], job_id: str) -> None:
    name = safe_name(job_id)
    if name == "shared":
        return
    for workspace in workspaces:
        folder = workspace / name
        if os.path.isdir(folder):
            # Where a start removes what no run has, if this is not done here.
            aside = workspace / ".runs" / f"{_ASIDE}{secrets.token_hex(8)}"
            aside.parent.mkdir(mode=0o700, exist_ok=True)
            folder.rename(aside)


def _remove_artifacts(uploads: Area, runs: Collection[str]) -> None:
    """Those whose names begin so."""
    for artifact in uploads.listed():
        if "~".join(artifact.name.split("~")[:3]) + "~" in runs:
            with contextlib.suppress(FileNotFoundError):
                uploads.remove(artifact.name)


def _empty(workspaces: Iterable[Path]) -> None:
    for workspace in workspaces:
        for aside in workspace.glob(f".runs/{_ASIDE}*"):
            shutil.rmtree(aside, ignore_errors=True)


# ---------------------------------------------------------------------- manifests


async def forget_manifests(before: float, store: Store) -> None:
    """Remove manifests that were written before that time and whose jobs are all forgotten, and names of what is gone.

    Raises:
        StoreFailed: some of them are still there.
    """
    for prefix in sdk_keys.MANIFESTS:
        after = ""
        while page := await store.keys(prefix, after, _PAGE):
            for key in page:
                changes = await _look(store, key, before)
                if changes:
                    await store.journal.write(*changes)
                await asyncio.sleep(0)
            after = page[-1]


async def _look(store: Store, key: str, before: float) -> list[Change]:
    """The changes for a manifest. A text that is written again meanwhile stays."""
    value = await store.get(key)
    if value is None:
        return []
    latest = sdk_keys.latest_of(key)
    if latest is None:
        # A submission writes this name after what it names.
        named = sdk_keys.manifest_named(key, value)
        lost = named is not None and await store.get(named) is None
        return [Swap(key, value, None)] if lost else []
    manifest = sdk_keys.read_manifest(value)
    if manifest is None or manifest.submitted_at >= before or await _has_jobs(store, manifest):
        return []
    changes: list[Change] = []
    for job_id, nonce in manifest.jobs:
        if nonce:
            changes += await _left_by_submission(store, full_id(job_id), nonce)
    named = await store.get(latest)
    if named is not None and sdk_keys.manifest_named(latest, named) == key:
        changes.append(Swap(latest, named, None))
    return [*changes, Swap(key, value, None)]


async def _has_jobs(store: Store, manifest: sdk_keys.Manifest) -> bool:
    """Whether the master still has a job of that submission."""
    for number, (listed, nonce) in enumerate(manifest.jobs):
        if number % _PAGE == 0:
            await asyncio.sleep(0)
        for job_id in sdk_keys.known_as(listed):
            await store.bring((job_id,))
            row = store.job(job_id)
            if row is None:
                continue
            found = sdk_keys.nonce_of(await store.get(sdk_keys.record_key(job_id))) if nonce else None
            # By the clocks of a client and of a master only where no record tells.
            if found == nonce if found else row.submitted_at <= manifest.submitted_at + _SUBMIT_SECONDS:
                return True
    return False


async def _left_by_submission(store: Store, job_id: str, nonce: str) -> list[Change]:
    """Of one that was refused, or whose id was used again: nothing else leads to its values."""
    changes: list[Change] = []
    record = await store.get(sdk_keys.record_key(job_id))
    if record is not None and sdk_keys.nonce_of(record) == nonce:
        changes.append(Swap(sdk_keys.record_key(job_id), record, None))
    return [*changes, *map(Delete, await store.keys(sdk_keys.run_prefix(job_id, nonce), "", -1))]


# ---------------------------------------------------------------------- files that travel with jobs


async def forget_uploads(before: float, store: Store, uploads: Area) -> None:
    """Remove projects and large scripts that were sent before that time and that no unfinished job names.

    A submit that finds one half as old sends it again (requests/artifacts.py), so that none goes which a submit has just
    found. What people have uploaded under names of their own stays.

    Raises:
        StoreFailed, OSError: some of them are still there.
    """
    listed = await asyncio.to_thread(uploads.listed)
    old = {
        artifact.name
        for artifact in listed
        if artifact.modified_at and artifact.modified_at < before and CONTENT_NAME.fullmatch(artifact.name)
    }
    if not old:
        return
    for seq in list(store.table.by_number):
        if seq in store.table.by_number:
            old -= _named_in(store.line(seq))
        await asyncio.sleep(0)
    for name in old:
        await asyncio.to_thread(_remove_old, uploads, name, before)


def _remove_old(uploads: Area, name: str, before: float) -> None:
    with contextlib.suppress(FileNotFoundError):
        with uploads.open(name) as found:
            is_old = found.modified_at < before
        if is_old:  # still: it may have been sent again meanwhile
            uploads.remove(name)


def _named_in(line: str) -> set[str]:
    """Files that a job's line, or the launcher in it, names."""
    found = set(CONTENT_NAME.findall(line))
    for field in _BASE64.findall(line):
        with contextlib.suppress(ValueError):
            text = base64.b64decode(field).decode("ascii", "replace")
            found |= set(CONTENT_NAME.findall(text))
            # The launcher makes a part's name of its digest.
            found |= {part_asset(digest, b"").name for digest in re.findall(r"\b[0-9a-f]{64}\b", text)}
    return found


# ---------------------------------------------------------------------- titan gc


@dataclass(frozen=True, slots=True)
class Collected:
    """What ``collect`` removed, or would."""

    jobs: int
    keys: int
    freed_bytes: int
    """On this machine's disk."""


async def collect(settings: ClusterSettings, before: float, *, dry_run: bool = False) -> Collected:
    """Remove what ended before a time from folder and store of a master that does not run, and shrink them.

    Raises:
        InvalidArgument: no master has ever used the store under that prefix.
        TitanError: a master uses them, or they cannot be read or written.
    """
    location = settings.store_location()
    if location is not None and not await was_used(location):
        raise InvalidArgument(
            f"no master has kept anything under the prefix {location.prefix!r} in the store {location.shown}; give "
            "--store and --store-prefix as to titan up"
        )
    data = DataDir(settings.data_dir)
    try:
        storage = await open_storage(settings, data)
        store, size = storage.store, await asyncio.to_thread(_size, data)
        try:
            found = Collected(await store.count_finished(before), await store.count_expired(), 0)
            if dry_run:
                return found
            await store.journal.write(Sweep())
            await forget_before(before, store, storage.logs, data, storage.uploads)
            await store.compact()
        except StoreFailed as exc:
            raise TitanError(f"not everything could be removed: {exc}") from exc
        finally:
            await store.close()
        return Collected(found.jobs, found.keys, max(size - await asyncio.to_thread(_size, data), 0))
    finally:
        data.release()


def _size(data: DataDir) -> int:
    total = 0
    for path in data.root.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if path.is_file() else 0
    return total
