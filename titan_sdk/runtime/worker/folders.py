"""Packs a folder into one file, and unpacks it. The zip is not compressed, because large files mostly are already."""

from __future__ import annotations

import os

from . import project

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIXED = (1980, 1, 1, 0, 0, 0)


def pack(folder: str, target: str) -> None:
    """Write the zip of a folder's files to a new file. Equal files give equal bytes.

    Raises:
        ValueError: an entry is neither a file nor a folder.
        OSError: an entry cannot be read, or the disk is full.
    """
    import zipfile

    with zipfile.ZipFile(target, "x", zipfile.ZIP_STORED, True) as archive:
        for place, folders, names in os.walk(folder):
            folders.sort()
            inside = os.path.relpath(place, folder)
            prefix = "" if inside == "." else inside + "/"
            if prefix and not folders and not names:
                archive.writestr(zipfile.ZipInfo(prefix, _FIXED), b"")
            for name in sorted(names):
                _add(archive, os.path.join(place, name), prefix + name)


def _add(archive: Any, path: str, name: str) -> None:
    import stat
    import zipfile

    found = os.stat(path)
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
            for member in archive.infolist():
                most -= project.put_member(archive, member, root, most)
    except zipfile.BadZipFile as exc:
        raise ValueError("it is no zip of a folder, or damaged: %s" % exc) from None
