"""Unpacks an untrusted project zip: no file leaves its folder, and the size is bounded."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

__all__ = ["MAX_MEMBERS", "MAX_UNPACKED", "ArchiveRefused", "split_pointer", "unpack"]

MAX_UNPACKED = 1024 * 1024 * 1024
"""The largest unpacked size in bytes: an uploaded zip has at most 7.5 MiB, so this allows 130 times its size."""
MAX_MEMBERS = 20_000
_CHUNK = 256 * 1024


class ArchiveRefused(Exception):
    """An archive was not unpacked, or not completely; one sentence."""


def split_pointer(pointer: str) -> tuple[str, str]:
    """``name.zip`` and the entry's path inside it, cut at the first ``.zip`` (protocol section 5.4).

    Raises:
        ArchiveRefused: the pointer does not name a zip and an entry.
    """
    stem, suffix, entry = pointer.partition(".zip")
    entry = entry.removeprefix("/")
    if not suffix or not stem or not entry:
        raise ArchiveRefused(f"{pointer!r} does not name an entry of a zip; write name.zip/path/in/zip.py")
    return stem + suffix, entry


def unpack(
    archive: Path, folder: Path, *, max_bytes: int = MAX_UNPACKED, max_members: int = MAX_MEMBERS
) -> None:
    """Unpack a zip into ``folder``, which exists.

    Raises:
        ArchiveRefused: the file is not a zip, is damaged, has a member outside the folder, or is too large.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            if len(members) > max_members:
                raise ArchiveRefused(f"it has {len(members):,} members; the limit is {max_members:,}")
            for member in members:
                _check_name(member)
            left = max_bytes
            for member in members:
                left -= _write(opened, member, folder, left, max_bytes)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as exc:
        raise ArchiveRefused(f"it cannot be unpacked: {exc}") from exc


def _check_name(member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise ArchiveRefused(f"member {name!r} points outside the archive's folder")
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveRefused(f"member {name!r} is a link or a device; only files and folders are unpacked")


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, left: int, limit: int) -> int:
    """Unpack one member. Returns the bytes written; its header is not trusted."""
    target = folder / member.filename
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(member) as source, open(target, "wb") as out:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > left:
                raise ArchiveRefused(f"it unpacks to more than {limit:,} bytes")
            out.write(chunk)
    if (member.external_attr >> 16) & stat.S_IXUSR:
        target.chmod(0o755)
    return written
