"""What a master does beside its work so that nothing grows without bound: logs, finished jobs, expired keys."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from titan_sdk.cluster.folders import DataDir, safe_name
from titan_sdk.cluster.log_store import LogStore
from titan_sdk.cluster.manifests import forget_manifests
from titan_sdk.cluster.master import Master
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import Change, Delete, ForgetJobs, RemoveMember, Sweep
from titan_sdk.model import gates
from titan_sdk.model.rules import GATE_PREFIX, short_id
from titan_sdk.wire.store_text import encode_key, encode_member

__all__ = ["Housekeeping", "forget_before"]

LOG_SECONDS = 1.0
_STOP_SECONDS = 1.0
_ASIDE = "forgotten."


class Housekeeping:
    """Two endless tasks on the master's loop."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

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
        """Cut the logs of what runs now."""
        running = self._master.running()
        if running:
            await self._master.state.logs.limit(running)

    async def sweep(self) -> None:
        """Remove expired keys and jobs that ended too long ago, a few at a time."""
        store, keep = self._master.state.store, self._master.settings.keep_finished_seconds
        await store.journal.write(Sweep())
        if keep is not None:
            before = self._master.state.clock.now() - keep
            await forget_before(before, store, self._master.state.logs, self._master.data)


async def forget_before(before: float, store: Store, logs: LogStore, data: DataDir) -> None:
    """Remove jobs that ended before that time with all that is left of them, and manifests of which no job is left.

    Raises:
        StoreFailed, OSError: some of them are still there.
    """
    while old := await store.finished_before(before):
        # Files first: what a crash leaves is tried again.
        workspaces = [path for path in data.workers.glob("*/titan_workspace") if path.is_dir()]
        for job_id, seq in old:
            row = store.job(job_id)
            if row is not None and row.seq == seq:
                # In one turn with that look: afterwards the id may be another submission's, with files of its own.
                logs.drop(job_id)
                _put_aside(workspaces, job_id)
            await asyncio.sleep(0)
        await asyncio.to_thread(_empty, workspaces)
        await store.journal.write(*_what_gates_left(store, old), ForgetJobs(tuple(old)))
    await forget_manifests(before, store)


def _what_gates_left(store: Store, old: Iterable[tuple[str, int]]) -> list[Change]:
    """Of those of these jobs that are approval gates. One that is submitted again by now needs what there is."""
    changes: list[Change] = []
    for job_id, seq in old:
        gate, row = short_id(job_id), store.job(job_id)
        if gate.startswith(GATE_PREFIX) and row is not None and row.seq == seq:
            keys = gates.status_key(gate), gates.message_key(gate), gates.since_key(gate)
            changes += [Delete(encode_key(key)) for key in keys]
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


def _empty(workspaces: Iterable[Path]) -> None:
    for workspace in workspaces:
        for aside in workspace.glob(f".runs/{_ASIDE}*"):
            shutil.rmtree(aside, ignore_errors=True)
