"""Logs of jobs: one append-only file each, written by the job itself and, for remarks, by the master."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["MAX_LOG_REPLY", "append_note", "read_log"]

MAX_LOG_REPLY = 64 * 1024 * 1024
"""Bytes of a log that are read into memory for one reply; of a longer one the end is sent."""


def append_note(path: Path, sentence: str) -> None:
    """One line of the master's own, marked as such."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, f"[titan] {sentence}\n".encode())
    finally:
        os.close(fd)


def read_log(path: Path, limit: int = MAX_LOG_REPLY) -> str:
    """The whole log as text, in the order it was written; empty if there is none."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                return file.read(limit).decode("utf-8", errors="replace")
            file.seek(size - limit)
            tail = file.read(limit)
    except FileNotFoundError:
        return ""
    # Start at a line, which is also never inside a character.
    tail = tail.partition(b"\n")[2] or tail
    skipped = size - len(tail)
    return f"[titan] the first {skipped:,} of {size:,} bytes are left out here\n" + tail.decode(
        "utf-8", errors="replace"
    )
