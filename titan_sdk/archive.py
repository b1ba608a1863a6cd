"""Project folders as zip files: the same folder gives the same bytes."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from titan_sdk.errors import InvalidArgument, MissingFile

__all__ = ["zip_folder"]

_SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold; real times would change the bytes with every checkout."""


def zip_folder(folder: Path) -> bytes:
    """All files below the folder, in sorted order, with their permissions and without caches.

    Raises:
        MissingFile: there is no such folder.
        InvalidArgument: it has no files, or a link in it leads out of it.
    """
    if not folder.is_dir():
        raise MissingFile(f"there is no folder {str(folder)!r} (current folder {os.getcwd()!r})")
    buffer = io.BytesIO()
    count = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(folder):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (path.stat().st_mode & 0o777 | 0o100000) << 16
            archive.writestr(entry, path.read_bytes())
            count += 1
    if not count:
        raise InvalidArgument(f"the folder {str(folder)!r} has no files to upload")
    return buffer.getvalue()


def _files(folder: Path) -> Iterator[Path]:
    root = folder.resolve()
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(parent, name)
            if not path.resolve().is_relative_to(root):
                raise InvalidArgument(f"{str(path)!r} is a link out of the folder; copy the file into it")
            if path.is_file():
                yield path
