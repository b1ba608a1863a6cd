"""Project folders as zip files. The same files give the same bytes, and memory stays bounded for any size.

The zip has every file with its executable mark, empty folders, and the target of each link inside the folder. It leaves
out caches (``_SKIPPED``), sockets, pipes and devices, and the files that ``.titanignore`` names; a project without a
``.titanignore`` leaves out the files that its ``.gitignore`` names. Anything else that cannot travel is refused with its
path, so that no file is left out silently.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from titan_sdk.errors import InvalidArgument, MissingFile

__all__ = ["IGNORE_FILE", "PROJECT_IGNORE_FILES", "folder_digest", "zip_folder"]

IGNORE_FILE = ".titanignore"
"""Patterns of files not to upload, as in a .gitignore; read from the folder's root."""
PROJECT_IGNORE_FILES = (IGNORE_FILE, ".gitignore")
"""The ignore files of a project. The first one in its root counts."""
LARGEST = 1024 * 1024 * 1024
MOST_FILES = 20_000
"""The limits of what a worker unpacks: bytes (``LARGEST``), files and folders (``MOST_FILES``)."""

_SKIPPED = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold; real times would change the bytes with every checkout."""


def zip_folder(
    folder: Path, target: IO[bytes], ignore_files: Sequence[str] = (IGNORE_FILE,), *, bounded: bool = False
) -> frozenset[str]:
    """Zip the folder, in sorted order. Returns the names of the files in the zip.

    Args:
        ignore_files: the first of these files in the folder has the patterns to leave out.
        bounded: refuse a folder beyond the limits of a worker.

    Raises:
        MissingFile: there is no such folder.
        InvalidArgument: the folder has no files, or too many, or an entry that cannot travel. The sentence names the
            entry and the fix.
    """
    if not folder.is_dir():
        raise MissingFile(f"there is no folder {str(folder)!r} (current folder {os.getcwd()!r})")
    rules = _rules_of(folder, ignore_files)
    walk = _Walk(folder, rules)
    found = list(walk.all())
    names = frozenset(entry.name for entry in found if not entry.is_folder)
    if not names:
        left_out = f" that {rules} does not leave out" if os.path.lexists(folder / rules) else ""
        raise InvalidArgument(f"the folder {str(folder)!r} has no files to upload{left_out}")
    if bounded:
        _check_size(folder, found, rules)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in found:
            _add(archive, entry, walk.advice)
    return names


def folder_digest(folder: Path) -> str:
    """The SHA-256 of a project's folder as it would travel: of names, contents and executable marks.

    Raises:
        MissingFile, InvalidArgument: see ``zip_folder``.
    """
    if not folder.is_dir():
        raise MissingFile(f"there is no folder {str(folder)!r} (current folder {os.getcwd()!r})")
    walk, digest = _Walk(folder, _rules_of(folder, PROJECT_IGNORE_FILES)), hashlib.sha256()
    for entry in walk.all():
        digest.update(f"{entry.name}\0{entry.executable:d}{entry.size}\0".encode())
        if not entry.is_folder:
            for piece in _content(entry.path, walk.advice):
                digest.update(piece)
    return digest.hexdigest()


def _rules_of(folder: Path, ignore_files: Sequence[str]) -> str:
    return next((name for name in ignore_files if os.path.lexists(folder / name)), ignore_files[0])


def _add(archive: zipfile.ZipFile, found: _Found, advice: str) -> None:
    entry = zipfile.ZipInfo(found.name, _EPOCH)
    entry.create_system = 3
    if found.is_folder:
        entry.external_attr = 0o040755 << 16 | 0x10
        archive.writestr(entry, b"")
        return
    # Only the executable mark travels, as in git, because other permissions depend on a umask.
    entry.external_attr = (0o100755 if found.executable else 0o100644) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(entry, "w", force_zip64=True) as packed:
        for piece in _content(found.path, advice):
            packed.write(piece)


def _check_size(folder: Path, found: Sequence[_Found], rules: str) -> None:
    size = sum(entry.size for entry in found)
    if size <= LARGEST and len(found) <= MOST_FILES:
        return
    by_size = size > LARGEST
    weights: Counter[str] = Counter()
    for entry in found:
        first, slash, _ = entry.name.partition("/")
        weights[first + slash] += entry.size if by_size else 1
    biggest = ", ".join(
        f"{name} ({weight:,} {'bytes' if by_size else 'files'})" for name, weight in weights.most_common(5)
    )
    raise InvalidArgument(
        f"the folder {str(folder)!r} has {size:,} bytes in {len(found):,} files and folders; a worker takes up to "
        f"{LARGEST:,} bytes and {MOST_FILES:,}. Most of it is {biggest}: name in {rules} what the job does not need, "
        "or put data where the workers can read it"
    )


def _content(path: str, advice: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                yield piece
    except OSError as exc:
        raise _unreadable(path, exc, advice) from exc


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    """The name in the zip. A folder's name ends with a slash."""
    path: str
    executable: bool = False
    size: int = 0

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


class _Walk:
    """Finds the entries of a folder that travel."""

    def __init__(self, folder: Path, rules: str) -> None:
        self._folder, self._root = str(folder), os.path.realpath(folder)
        self.advice = f"or name it in {rules}"
        self._ignored, self._may_come_back = _ignore_rules(folder / rules)

    def all(self) -> Iterator[_Found]:
        """All entries, in sorted order."""
        return self.below("", self._folder, (self._root,))

    def below(self, prefix: str, folder: str, inside: tuple[str, ...]) -> Iterator[_Found]:
        """The entries of a folder: files first, then folders, each sorted.

        Args:
            prefix: the folder's name in the zip, with a slash at its end; empty for the root.
            inside: the real paths of the folder and of all folders on the way to it.
        """
        try:
            names = sorted(os.listdir(folder))
        except OSError as exc:
            if prefix and self._ignored(prefix):
                return
            raise _unreadable(folder, exc, self.advice) from exc
        modes = {n: self._mode(prefix + n, f"{folder}/{n}") for n in names if n not in _SKIPPED}
        empty = True
        for name, mode in modes.items():
            path = f"{folder}/{name}"
            if stat.S_ISREG(mode) and not self._ignored(prefix + name):
                empty = False
                checked = _checked(prefix + name, path, self.advice)
                yield _Found(checked, path, bool(mode & 0o100), self._size(path))
        for name in [name for name, mode in modes.items() if stat.S_ISDIR(mode)]:
            path = f"{folder}/{name}"
            if not self._may_come_back and self._ignored(f"{prefix}{name}/"):
                continue  # it may hold a million files
            real = os.path.realpath(path)
            if real in inside:
                raise InvalidArgument(
                    f"{path!r} is a link to a folder that it lies in, so it has no end; remove the link, {self.advice}"
                )
            for found in self.below(f"{prefix}{name}/", path, (*inside, real)):
                empty = False
                yield found
        if empty and prefix and not self._ignored(prefix):
            yield _Found(_checked(prefix, folder, self.advice), folder)

    def _size(self, path: str) -> int:
        try:
            return os.path.getsize(path)
        except OSError as exc:
            raise _unreadable(path, exc, self.advice) from exc

    def _mode(self, name: str, path: str) -> int:
        """The mode of a path, or of a link's target; 0 for a link that is ignored."""
        try:
            mode = os.lstat(path).st_mode
        except OSError as exc:
            raise _unreadable(path, exc, self.advice) from exc
        if not stat.S_ISLNK(mode):
            return mode
        # The pattern "data/" ignores a link of that name too.
        if self._ignored(name) or self._ignored(name + "/"):
            return 0
        try:
            real = os.path.realpath(path, strict=True)
            mode = os.stat(real).st_mode
        except OSError as exc:
            raise InvalidArgument(
                f"{path!r} is a link to {os.readlink(path)!r}, which leads nowhere ({exc.strerror}); "
                f"remove it, {self.advice}"
            ) from exc
        if os.path.commonpath((real, self._root)) != self._root:
            what = "folder" if stat.S_ISDIR(mode) else "file"
            raise InvalidArgument(
                f"{path!r} is a link out of the folder, to {real!r}; copy the {what} into it, {self.advice}"
            )
        return mode


def _checked(name: str, path: str, advice: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument(
            f"the name of {path!r} is not UTF-8, which a zip's names are; rename it, {advice}"
        ) from None
    if "\\" in name:
        raise InvalidArgument(
            f"the name of {path!r} has a backslash, which in a zip may separate folders; rename it, {advice}"
        )
    return name


def _unreadable(path: str, exc: OSError, advice: str) -> InvalidArgument:
    return InvalidArgument(f"{path!r} cannot be read ({exc.strerror or exc}); change that, {advice}")


def _ignore_rules(rules: Path) -> tuple[Callable[[str], bool], bool]:
    """The test for ignored names, and whether a file below an ignored folder may still travel (a ``!`` pattern)."""
    if not os.path.lexists(rules):
        return lambda _: False, False
    try:
        # Editors of some systems begin a file with a byte order mark.
        lines = rules.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise InvalidArgument(f"{str(rules)!r}, line {line}, is not UTF-8; save the file as UTF-8") from exc
    except OSError as exc:
        raise InvalidArgument(f"{str(rules)!r} cannot be read ({exc.strerror or exc})") from exc
    from pathspec import GitIgnoreSpec

    for number, text in enumerate(lines, 1):
        try:
            GitIgnoreSpec.from_lines([text])
        except ValueError as exc:
            raise InvalidArgument(
                f"{str(rules)!r}, line {number}: {text!r} is no pattern of a .gitignore"
            ) from exc
    spec = GitIgnoreSpec.from_lines(lines)
    own = rules.name
    comes_back = any(pattern.include is False for pattern in spec.patterns)
    return lambda name: name == own or spec.match_file(name), comes_back
