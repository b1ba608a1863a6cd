"""The logs of jobs: files of this machine, or a store that other machines reach too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from titan_sdk.cluster.disk import sync
from titan_sdk.cluster.folders import LOG, DataDir, safe_name

__all__ = [
    "MAX_LOG_REPLY",
    "FileLogs",
    "LogStore",
    "append_note",
    "limit_log",
    "marker",
    "note_line",
    "read_log",
    "read_range",
    "tail_of",
]

log = logging.getLogger(__name__)

MAX_LOG_REPLY = 64 * 1024 * 1024
"""The most bytes of a log in one reply. For a longer log, its end is sent."""
_MARK = ".received"


class LogStore(Protocol):
    """One log per job id, with the output of its runs and the master's own lines, in the order of arrival.

    A log keeps its beginning, up to a limit. A last line then says that output is missing.
    """

    def drop(self, job_id: str) -> None:
        """Remove the log of an ended job: its id was submitted again, or the job is being removed.

        Raises:
            OSError: it is still there.
        """

    def note(self, job_id: str, sentence: str) -> None:
        """Append a marked line of the master.

        Raises:
            OSError: it could not be written.
        """

    async def append(self, job_id: str, run: str, offset: int, data: bytes) -> int:
        """Append output of a run, from an offset in that run's output. Returns how much of the run's output has arrived in
        all: repeated output counts once, and output behind a gap is not appended.

        Raises:
            OSError, StoreFailed: nothing was appended. Send it again.
        """

    async def read_range(self, job_id: str, offset: int, length: int) -> tuple[bytes, int]:
        """See ``read_range``.

        Raises:
            FileNotFoundError: there is no log.
        """

    async def read(self, job_id: str) -> str:
        """See ``read_log``."""

    async def limit(self, job_ids: Collection[str]) -> None:
        """Cut the logs of jobs that write their logs themselves."""

    async def ended(self, job_id: str) -> None:
        """Cut the log of a job whose run has ended, including output since the last ``limit``. Afterwards the output is as
        durable as the store's own writes; the end is reported only then.
        """


class FileLogs:
    """Log files in the data directory. A job of this machine appends to its file directly.

    Args:
        cap: the most bytes of a log.
        synced: whether output survives a power cut, once the run has ended or the output's arrival was acknowledged.
    """

    def __init__(self, data: DataDir, cap: int, *, synced: bool = False) -> None:
        self._synced = synced
        self._data = data
        self._cap = cap
        self._lock = threading.Lock()
        """A lock: the master's lines and an engine's output are written to the same file by different threads."""

    def drop(self, job_id: str) -> None:
        # Most ids are new, so the cost is that of checking a path: it is text, and the check does not raise. A mark never
        # exists without its log, which is created first and removed last.
        stem = f"{self._data.logs}/{safe_name(job_id)}"
        if os.access(stem + LOG, os.F_OK):
            for path in (stem + _MARK, stem + LOG):
                Path(path).unlink(missing_ok=True)

    def note(self, job_id: str, sentence: str) -> None:
        with self._lock:
            append_note(self._data.log_file(job_id), sentence)

    async def append(self, job_id: str, run: str, offset: int, data: bytes) -> int:
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
                # The intention is written before the bytes, so that the next master can tell which of the two was done.
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
        return read_range(self._data.log_file(job_id), offset, length, self._cap)

    async def read(self, job_id: str) -> str:
        return await asyncio.to_thread(read_log, self._data.log_file(job_id), cap=self._cap)

    async def limit(self, job_ids: Collection[str]) -> None:
        await asyncio.to_thread(self._limit, job_ids)

    async def ended(self, job_id: str) -> None:
        self._limit((job_id,))
        if self._synced:
            await asyncio.to_thread(self._sync, job_id)

    def _sync(self, job_id: str) -> None:
        try:
            sync(self._data.log_path(job_id))
            sync(self._data.logs)
        except FileNotFoundError:
            pass  # it printed nothing
        except OSError as exc:
            log.error("the output of job %s may not outlive a power cut: %s", job_id, exc)

    def _limit(self, job_ids: Collection[str]) -> None:
        for job_id in job_ids:
            with contextlib.suppress(OSError):
                limit_log(self._data.log_file(job_id), self._cap)


def _mark_of(path: Path) -> Path:
    """The file beside a log with the size of each run's output in it."""
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
    """The size of each run's output. An append that a master did not finish is undone."""
    try:
        mark = json.loads(_mark_of(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        # A power cut has emptied the file. Repeated output is then in the log twice, which is better than a loss.
        return {}
    received: dict[str, int] = mark["runs"]
    if os.fstat(fd).st_size < mark["end"]:
        os.ftruncate(fd, mark["at"])
        received[mark["run"]] -= mark["more"]
    return received


# ---------------------------------------------------------------------- one file


def append_note(path: Path, sentence: str) -> None:
    """Append a marked line of the master."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, note_line(sentence))
    finally:
        os.close(fd)


def note_line(sentence: str) -> bytes:
    """The master's sentence as a log line."""
    return f"[titan] {sentence}\n".encode()


def limit_log(path: Path, cap: int) -> None:
    """Cut a log above its limit. One byte more than the limit stays, as the sign that output is missing."""
    try:
        if os.stat(path).st_size > cap + 1:
            # The job appends, so its next output follows the cut, and the next cut removes it.
            os.truncate(path, cap + 1)
    except FileNotFoundError:
        return


def read_range(path: Path, offset: int, length: int, cap: int) -> tuple[bytes, int]:
    """The bytes of a log from an offset, and its size: the kept output, and a last line if output is missing.

    Offsets do not change when a log above its limit is cut.

    Raises:
        FileNotFoundError: there is no log.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= cap:
            return os.pread(file.fileno(), length, offset), size
        data = os.pread(file.fileno(), min(length, cap - offset), offset) if offset < cap else b""
    end = marker(cap)
    behind = max(offset - cap, 0)
    return data + end[behind : behind + length - len(data)], cap + len(end)


def marker(cap: int) -> bytes:
    """The last line of a log that was cut at ``cap`` bytes."""
    return f"\n[titan] the log has reached its limit of {cap:,} bytes; what the job printed after that is left out\n".encode()


def read_log(path: Path, limit: int = MAX_LOG_REPLY, cap: int = MAX_LOG_REPLY) -> str:
    """The whole log as text, in the order it was written; empty if there is none."""
    return tail_of(lambda offset, length: read_range(path, offset, length, cap), limit)


def tail_of(read: Callable[[int, int], tuple[bytes, int]], limit: int) -> str:
    """A log as text, or its end if it is longer than the limit; ``read`` is ``read_range`` of that log."""
    try:
        tail, size = read(0, limit)
        if size <= limit:
            return tail.decode("utf-8", errors="replace")
        tail, size = read(size - limit, limit)
    except FileNotFoundError:
        return ""
    # Start at a line, which is also never inside a character.
    tail = tail.partition(b"\n")[2] or tail
    skipped = size - len(tail)
    return f"[titan] the first {skipped:,} of {size:,} bytes are left out here\n" + tail.decode(
        "utf-8", errors="replace"
    )
