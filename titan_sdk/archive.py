"""Project folders as zip files: the same folder gives the same bytes, whatever its size in bounded memory."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from titan_sdk.errors import InvalidArgument, MissingFile

__all__ = ["IGNORE_FILE", "zip_folder"]

IGNORE_FILE = ".titanignore"
"""Patterns of files not to upload, as in a .gitignore; read from the folder's root."""

_SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold; real times would change the bytes with every checkout."""


def zip_folder(folder: Path, target: IO[bytes]) -> int:
    """Write all files below the folder, in sorted order and with their permissions, without caches and without
    what ``.titanignore`` names; how many there were.

    Raises:
        MissingFile: there is no such folder.
        InvalidArgument: it has no files, or a link in it leads out of it.
    """
    if not folder.is_dir():
        raise MissingFile(f"there is no folder {str(folder)!r} (current folder {os.getcwd()!r})")
    ignored = _ignored(folder)
    count = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(folder):
            name = path.relative_to(folder).as_posix()
            if ignored(name):
                continue
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (path.stat().st_mode & 0o777 | 0o100000) << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as packed:
                shutil.copyfileobj(source, packed, 1 << 20)
            count += 1
    if not count:
        raise InvalidArgument(f"the folder {str(folder)!r} has no files to upload")
    return count


def _ignored(folder: Path) -> Callable[[str], bool]:
    rules = folder / IGNORE_FILE
    if not rules.is_file():
        return lambda _: False
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(rules.read_text(encoding="utf-8").splitlines())
    return lambda name: name == IGNORE_FILE or spec.match_file(name)


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
