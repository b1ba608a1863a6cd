"""Where the logs of jobs are: files of this machine, or a store that other machines reach too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from titan_sdk.cluster.disk import sync
from titan_sdk.cluster.folders import LOG, DataDir, safe_name
from titan_sdk.cluster.logs import append_note, limit_log, read_log, read_range

__all__ = ["FileLogs", "LogStore"]

_MARK = ".received"


class LogStore(Protocol):
    """One log per job id: what its runs printed, and remarks of the master's own, in the order of arrival.

    What is kept of a log is its beginning, up to a limit; then a line says that something is missing.
    """

    def drop(self, job_id: str) -> None:
        """Forget the log of a job that ended: another submission of its id was stored, or it is to be forgotten.

        Raises:
            OSError: it is still there.
        """

    def note(self, job_id: str, sentence: str) -> None:
        """One line of the master's own, marked as such.

        Raises:
            OSError: it could not be written.
        """

    async def append(self, job_id: str, run: str, offset: int, data: bytes) -> int:
        """Output of a run that an engine brings, from an offset in that run's output on. How much of the run's output
        has arrived in all: what is sent twice counts once, and what leaves a gap not at all.

        Raises:
            OSError, StoreFailed: nothing was appended; send it again.
        """

    async def read_range(self, job_id: str, offset: int, length: int) -> tuple[bytes, int]:
        """See ``logs.read_range``.

        Raises:
            FileNotFoundError: there is no log.
        """

    async def read(self, job_id: str) -> str:
        """See ``logs.read_log``."""

    async def limit(self, job_ids: Collection[str]) -> None:
        """Cut the logs of jobs that write theirs themselves."""

    def ended(self, job_id: str) -> None:
        """Cut the log of a job whose run is over; what it printed since the last ``limit`` counts, too."""


class FileLogs:
    """Files of the data directory. A job of this machine appends to its file without asking anybody.

    Args:
        cap: bytes that are kept of a log.
        synced: output that an engine brought outlives a power cut.
    """

    def __init__(self, data: DataDir, cap: int, *, synced: bool = False) -> None:
        self._synced = synced
        self._data = data
        self._cap = cap
        self._lock = threading.Lock()
        """Remarks and brought output go to the same file from different threads."""

    def drop(self, job_id: str) -> None:
        """See ``LogStore``."""
        # Most submissions are of new ids, so making a path and looking there is nearly all there is to it: as text, and
        # nothing that raises where no file is. No mark is without its log: that is made first, and removed last.
        stem = f"{self._data.logs}/{safe_name(job_id)}"
        if os.access(stem + LOG, os.F_OK):
            for path in (stem + _MARK, stem + LOG):
                Path(path).unlink(missing_ok=True)

    def note(self, job_id: str, sentence: str) -> None:
        """See ``LogStore``."""
        with self._lock:
            append_note(self._data.log_file(job_id), sentence)

    async def append(self, job_id: str, run: str, offset: int, data: bytes) -> int:
        """See ``LogStore``."""
        return await asyncio.to_thread(self._append, self._data.log_file(job_id), run, offset, data)

    def _append(self, path: Path, run: str, offset: int, data: bytes) -> int:
        with self._lock:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                received = _settle(path, fd)
                done = received.get(run, 0)
                new = data[done - offset :] if offset <= done else b""
                if not new:
                    return done
                size = os.fstat(fd).st_size
                kept = new[: max(self._cap + 1 - size, 0)]
                # First the intention, then the bytes: a master that dies in between finds out which of the two it did.
                _write_mark(path, received, run, len(new), size, size + len(kept), synced=self._synced)
                written = 0
                while written < len(kept):
                    written += os.pwrite(fd, kept[written:], size + written)
                if self._synced:
                    os.fsync(fd)
                return done + len(new)
            finally:
                os.close(fd)

    async def read_range(self, job_id: str, offset: int, length: int) -> tuple[bytes, int]:
        """See ``LogStore``."""
        return read_range(self._data.log_file(job_id), offset, length, self._cap)

    async def read(self, job_id: str) -> str:
        """See ``LogStore``."""
        return await asyncio.to_thread(read_log, self._data.log_file(job_id), cap=self._cap)

    async def limit(self, job_ids: Collection[str]) -> None:
        """See ``LogStore``."""
        await asyncio.to_thread(self._limit, job_ids)

    def ended(self, job_id: str) -> None:
        """See ``LogStore``."""
        self._limit((job_id,))

    def _limit(self, job_ids: Collection[str]) -> None:
        for job_id in job_ids:
            with contextlib.suppress(OSError):
                limit_log(self._data.log_file(job_id), self._cap)


def _mark_of(path: Path) -> Path:
    """The file beside a log that tells how much of each run's output is in it."""
    return path.with_suffix(_MARK)


def _write_mark(
    path: Path, received: dict[str, int], run: str, more: int, at: int, end: int, *, synced: bool
) -> None:
    runs = {**received, run: received.get(run, 0) + more}
    part = path.with_suffix(".received-part")
    part.write_text(
        json.dumps({"runs": runs, "run": run, "more": more, "at": at, "end": end}), encoding="utf-8"
    )
    if synced:
        sync(part)
    os.replace(part, _mark_of(path))
    if synced:
        sync(path.parent)


def _settle(path: Path, fd: int) -> dict[str, int]:
    """How much has arrived of each run; an append that a master did not finish is undone."""
    try:
        mark = json.loads(_mark_of(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        # A power cut has emptied it. Output that is sent again stands in the log twice, which is better than not at all.
        return {}
    received: dict[str, int] = mark["runs"]
    if os.fstat(fd).st_size < mark["end"]:
        os.ftruncate(fd, mark["at"])
        received[mark["run"]] -= mark["more"]
    return received
