"""The disk under a folder: advice for its errors, and waiting until it has the written data."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

__all__ = ["advice", "sync", "sync_way", "write_synced"]

_LITTLE = 1024 * 1024
"""The bytes that a master needs at its start."""
_ELSEWHERE = "or give another data_dir"
_FULL = f"make room on the disk, {_ELSEWHERE}"
_FORBIDDEN = f"let this user write there, {_ELSEWHERE}"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NOT_OURS = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN}
_TAKEN = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def advice(exc: BaseException, folder: Path) -> str:
    """The advice for an error with a file in the folder: the end of a sentence."""
    if isinstance(exc, sqlite3.Error):
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _DAMAGED:
            return f"the file is damaged or is no database: move its folder away, {_ELSEWHERE}"
        if code in _TAKEN:
            return f"another program uses the file: end it, {_ELSEWHERE}"
        # Without room for its other files, SQLite reports a disk error, or that it cannot open a file.
        if code == sqlite3.SQLITE_FULL or _is_full(folder):
            return _FULL
        if code in _NOT_OURS:
            return _FORBIDDEN
        return f"check the disk, {_ELSEWHERE}"
    number = exc.errno if isinstance(exc, OSError) else None
    if number in _NO_ROOM:
        return _FULL
    if number in {errno.EMFILE, errno.ENFILE}:
        return "raise the limit of open files (ulimit -n)"
    return _FORBIDDEN if number in _NO_RIGHT else "give another data_dir"


def sync(path: str | Path) -> None:
    """Wait until a file's bytes, or the names in a folder, are on the disk. They then survive a power cut.

    Raises:
        OSError: they may be there or not.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file, whole or not at all, also after a power cut. Meanwhile its name plus ``.part`` is used.

    Raises:
        OSError: it may be there or not.
    """
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    sync(part)
    os.replace(part, path)
    sync(path.parent)


def sync_way(folder: Path) -> None:
    """Wait until the disk has the names in a folder, and the names of all folders above it.

    Raises:
        OSError: they may be there or not.
    """
    sync(folder)
    for above in folder.resolve().parents:
        # A folder that this user may not open existed before.
        with contextlib.suppress(PermissionError):
            sync(above)


def _is_full(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _LITTLE or (found.f_files > 0 and found.f_favail == 0)
