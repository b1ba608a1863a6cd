"""What a master does beside its work so that nothing grows without bound: logs, finished jobs, expired keys."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from titan_sdk.cluster.folders import DataDir, safe_name
from titan_sdk.cluster.logs import limit_log
from titan_sdk.cluster.master import Master
from titan_sdk.cluster.store import retention
from titan_sdk.cluster.store.schema import open_database

__all__ = ["Collected", "Housekeeping", "collect"]

log = logging.getLogger(__name__)

LOG_SECONDS = 1.0


class Housekeeping:
    """Two endless tasks on the master's loop."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        settings = self._master.settings
        self._tasks = [
            asyncio.create_task(_every(LOG_SECONDS, self.limit_logs)),
            asyncio.create_task(_every(settings.sweep_seconds, self.sweep)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def limit_logs(self) -> None:
        """Cut the logs of what runs now."""
        files = [self._master.data.log_file(job_id) for job_id in self._master.running()]
        if files:
            await asyncio.to_thread(_limit_all, files, self._master.settings.log_limit_bytes)

    async def sweep(self) -> None:
        """Remove expired keys and jobs that ended too long ago, a few at a time."""
        store, keep = self._master.state.store, self._master.settings.keep_finished_seconds
        await store.sweep()
        if keep is None:
            return
        before = self._master.state.clock.now() - keep
        while old := retention.finished_before(store.db, before):
            await store.journal.write(functools.partial(_forget, jobs=old))
            await asyncio.to_thread(_remove_files, self._master.data, [job_id for job_id, _ in old])


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except (sqlite3.Error, OSError) as exc:
            # A full disk, say: the next round tries again.
            log.warning("housekeeping: %s", exc)


def _limit_all(files: Iterable[Path], cap: int) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            limit_log(file, cap)


def _forget(db: sqlite3.Connection, jobs: list[tuple[str, int]]) -> object:
    retention.forget_dags(db, sorted(retention.forget(db, jobs)))
    return None


def _remove_files(data: DataDir, job_ids: Iterable[str]) -> None:
    workspaces = [path for path in data.workers.glob("*/titan_workspace") if path.is_dir()]
    for job_id in job_ids:
        with contextlib.suppress(OSError):
            data.log_file(job_id).unlink(missing_ok=True)
        for workspace in workspaces:
            folder = workspace / safe_name(job_id)
            if safe_name(job_id) != "shared" and folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Collected:
    """What ``collect`` removed, or would."""

    jobs: int
    keys: int
    freed_bytes: int


def collect(root: Path, before: float, now: float, *, dry_run: bool = False) -> Collected:
    """Remove what ended before a time from the folder of a master that does not run, and shrink its database.

    Raises:
        TitanError: a master uses the folder, or its database cannot be read.
    """
    data = DataDir(root)
    try:
        db = open_database(data.database)
        try:
            expired = [
                str(row[0]) for row in db.execute("SELECT key FROM expiry WHERE at <= ?", (now,)).fetchall()
            ]
            jobs, size = retention.count(db, before), _size(data)
            if dry_run:
                return Collected(jobs, len(expired), 0)
            for key in expired:
                for table in ("kv", "members", "expiry"):
                    db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
            while old := retention.finished_before(db, before):
                db.execute("BEGIN IMMEDIATE")
                _forget(db, old)
                db.execute("COMMIT")
                _remove_files(data, [job_id for job_id, _ in old])
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.close()
        return Collected(jobs, len(expired), max(size - _size(data), 0))
    finally:
        data.release()


def _size(data: DataDir) -> int:
    total = 0
    for path in data.root.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if path.is_file() else 0
    return total
