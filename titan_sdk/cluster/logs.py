"""Logs of jobs: one append-only file each, written by the job itself and, for remarks, by the master."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "MAX_LOG_REPLY",
    "append_note",
    "limit_log",
    "marker",
    "note_line",
    "read_log",
    "read_range",
    "tail_of",
]

MAX_LOG_REPLY = 64 * 1024 * 1024
"""Bytes of a log that are read into memory for one reply; of a longer one the end is sent."""


def append_note(path: Path, sentence: str) -> None:
    """One line of the master's own, marked as such."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, note_line(sentence))
    finally:
        os.close(fd)


def note_line(sentence: str) -> bytes:
    """A remark as it stands in a log."""
    return f"[titan] {sentence}\n".encode()


def limit_log(path: Path, cap: int) -> None:
    """Cut a log that is over its limit; one byte more than the limit stays and says that something is missing."""
    try:
        if os.stat(path).st_size > cap + 1:
            # The job appends, so what it writes next follows the cut and falls to the next one.
            os.truncate(path, cap + 1)
    except FileNotFoundError:
        return


def read_range(path: Path, offset: int, length: int, cap: int) -> tuple[bytes, int]:
    """Bytes of a log from an offset on, and its whole size: what is kept, and a last line if that is not all.

    Offsets stay what they are however often a log over its limit is cut.

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
