"""Packs a folder into one file, and unpacks it. The zip is not compressed, because large files mostly are already."""

from __future__ import annotations

import os

from . import project

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Tuple

_FIXED = (1980, 1, 1, 0, 0, 0)


def pack(folder: str, target: str) -> None:
    """Write the zip of a folder's files to a new file; equal files make equal bytes. Links are what they lead to.

    Raises:
        ValueError: something in it is neither a file nor a folder, a link to a folder outside or around it, or has a name
            that no zip holds.
        OSError: it cannot be read, or the disk is full.
    """
    import zipfile

    with zipfile.ZipFile(target, "x", zipfile.ZIP_STORED, True) as archive:
        _pack(archive, folder, "", (os.path.realpath(folder),))


def _pack(archive: Any, folder: str, prefix: str, inside: Tuple[str, ...]) -> None:
    """`inside` are the real paths of the folder and of those that it lies in."""
    import zipfile

    names = sorted(os.listdir(folder))
    if prefix and not names:
        archive.writestr(zipfile.ZipInfo(prefix, _FIXED), b"")
    for name in names:
        path = os.path.join(folder, name)
        if "\\" in name or any("\ud800" <= c <= "\udfff" for c in name):
            raise ValueError("the name of %r has a backslash, or is not UTF-8; rename it" % path)
        if not os.path.isdir(path):
            _add(archive, path, prefix + name)
            continue
        real = os.path.realpath(path)
        if real in inside:
            raise ValueError("%s is a link to a folder that it lies in, so it has no end; remove it" % path)
        if os.path.commonpath((real, inside[0])) != inside[0]:
            raise ValueError(
                "%s is a link out of the folder, to the folder %s; copy it, or remove it" % (path, real)
            )
        _pack(archive, path, prefix + name + "/", inside + (real,))


def _add(archive: Any, path: str, name: str) -> None:
    import stat
    import zipfile

    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise ValueError("%s is a link that leads nowhere; remove it" % path) from None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("%s is neither a file nor a folder" % path)
    entry = zipfile.ZipInfo(name, _FIXED)
    entry.create_system, entry.external_attr = 3, (stat.S_IFREG | found.st_mode & 0o777) << 16
    # Else it is taken for a small one.
    entry.file_size = found.st_size
    with open(path, "rb") as source, archive.open(entry, "w") as target:
        while True:
            piece = source.read(1 << 20)
            if not piece:
                return
            target.write(piece)


def unpack(packed: str, folder: str, most: int) -> None:
    """Unpack a zip into a folder, which may exist. A file of the same name is replaced.

    Raises:
        ValueError: the file is not a zip, is damaged, has a path outside the folder, or takes more than `most` bytes.
        OSError: the disk.
    """
    import zipfile

    root = os.fsencode(folder)
    os.makedirs(root, 0o700, True)
    try:
        with zipfile.ZipFile(packed) as archive:
            left = most
            for member in archive.infolist():
                left -= project.put_member(archive, member, root, left, most)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as exc:
        raise ValueError("it is no zip of a folder, or damaged: %s" % exc) from None
    except Exception as exc:
        if type(exc).__module__ not in ("zlib", "lzma", "_lzma"):
            raise
        raise ValueError("it is a damaged zip: %s" % exc) from None
