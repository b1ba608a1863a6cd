"""Areas of named files: the artifact registry (``uploads``) and deployed scripts (``perm_files``).

They are in a folder of this machine, or at an fsspec URL, where every master finds them.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import secrets
import shutil
import tempfile
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

from titan_sdk.cluster.disk import sync, sync_way
from titan_sdk.errors import InvalidArgument, TitanError
from titan_sdk.model.listing import ListedArtifact

__all__ = ["Area", "FileArea", "FsspecArea", "Opened", "OutsideArea", "open_area", "shown_url"]

_CHUNK = 1024 * 1024
_PARTS = ".parts"
"""The beginning of the names of incomplete files. No file's own name begins with it."""


class OutsideArea(Exception):
    """The name points outside its folder."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is open for reading."""

    file: BinaryIO
    size: int
    key: str
    """The file's canonical name."""
    version: Hashable
    """A value that changes when the file is replaced."""
    modified_at: float = 0.0
    """The time of the last change in unix seconds; 0 if the file system does not have it."""


class Area(Protocol):
    """Files with untrusted names. A write replaces a file as a whole or not at all.

    All methods except ``check`` may block: call them in a thread. All raise ``OutsideArea`` for an invalid name or one
    outside the area, ``FileNotFoundError`` for a missing file, and ``OSError``.
    """

    def check(self, name: str) -> None:
        """Check that a file of the area may have that name."""

    def write(self, name: str, data: bytes) -> None: ...

    def take(self, name: str, source: Path) -> None:
        """Move a complete local file into the area."""

    def read(self, name: str) -> bytes: ...

    def remove(self, name: str) -> None: ...

    def open(self, name: str) -> AbstractContextManager[Opened]:
        """Open a file for reading."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """The file on this machine's disk, within the block."""

    def listed(self) -> list[ListedArtifact]:
        """All files, in no order."""

    def find(self, name: str) -> str | None:
        """The name of a file with that base name, as RUN searches for it."""


class FileArea:
    """A folder of this machine.

    Args:
        synced: a file that was written outlives a power cut, too.
    """

    def __init__(self, root: Path, *, synced: bool = False) -> None:
        self._root = root.resolve()
        self._synced = synced

    def path(self, name: str) -> Path:
        """The path of a file of that name. An absolute name counts as relative, as in Titan.

        Raises:
            OutsideArea: it would lie elsewhere, or it is not a name.
        """
        try:
            encoded = os.fsencode(name)
        except UnicodeError as exc:
            raise OutsideArea(name) from exc
        if b"\0" in encoded:
            raise OutsideArea(name)
        path = (self._root / name.lstrip("/")).resolve()
        if path == self._root or not path.is_relative_to(self._root):
            raise OutsideArea(name)
        return path

    def check(self, name: str) -> None:
        self.path(name)

    def write(self, name: str, data: bytes) -> None:
        path = self.path(name)
        part = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with open(part, "xb") as file:
                file.write(data)
            self._replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    def take(self, name: str, source: Path) -> None:
        self._replace(source, self.path(name))

    def _replace(self, source: Path, path: Path) -> None:
        if self._synced:
            sync(source)
        os.replace(source, path)
        if self._synced:
            sync(path.parent)

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def remove(self, name: str) -> None:
        path = self.path(name)
        path.unlink()
        if self._synced:
            sync(path.parent)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Opened]:
        path = self.path(name)
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            version = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            yield Opened(file, stat.st_size, str(path), version, stat.st_mtime)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        path = self.path(name)
        if not path.is_file():
            raise FileNotFoundError(name)
        yield path

    def listed(self) -> list[ListedArtifact]:
        found = []
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError, UnicodeError):
                    stat = os.stat(path, follow_symlinks=False)
                    shown = os.path.relpath(path, self._root)
                    shown.encode()  # raises for a name that a reply cannot hold
                    if not (name.startswith(".") and name.endswith(".part")):
                        found.append(ListedArtifact(shown, stat.st_size, stat.st_mtime))
        return found

    def find(self, name: str) -> str | None:
        wanted = Path(name).name
        for folder, _, files in os.walk(self._root):
            if wanted in files:
                return str((Path(folder) / wanted).relative_to(self._root))
        return None


# ---------------------------------------------------------------------- at a URL


def open_area(url: str, folder: str, scratch: Path, *, synced: bool = False) -> FsspecArea:
    """The area in a folder below the URL.

    Args:
        scratch: a folder of this machine for temporary copies.
        synced: whether written files survive a power cut. For ``file:`` URLs a write waits for the disk; an object store
            has its own durability.

    Raises:
        InvalidArgument: fsspec or its package for this kind of URL is not installed, or does not accept the URL.
        TitanError: the location cannot be written.
    """
    try:
        import fsspec
    except ImportError as exc:
        raise InvalidArgument(
            "artifacts at a URL need the package fsspec; `pip install fsspec` brings it, or leave the URL out"
        ) from exc
    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as exc:
        raise InvalidArgument(
            f"artifacts at {shown_url(url)}: {exc}; install what fsspec needs for it"
        ) from exc
    area = FsspecArea(system, posixpath.join(root, folder), scratch, synced=synced)
    try:
        area.prepare()
    except OSError as exc:
        raise TitanError(f"artifacts cannot be kept at {shown_url(url)}: {exc}") from exc
    return area


def shown_url(url: str) -> str:
    """The URL without its secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class FsspecArea:
    """Implements ``Area`` on an fsspec file system. A file is written under another name, and moved when it is complete."""

    def __init__(self, system: Any, root: str, scratch: Path, *, synced: bool = False) -> None:
        self._system = system
        self._is_local = getattr(system, "protocol", None) in {"file", ("file", "local")}
        self._synced = synced and self._is_local
        self._root = root.rstrip("/")
        self._scratch = scratch

    def prepare(self) -> None:
        """Create the folder, if the file system has folders.

        Raises:
            OSError: it cannot be created.
        """
        with _as_os_errors():
            self._system.makedirs(f"{self._root}/{_PARTS}", exist_ok=True)
            if self._synced:
                sync_way(Path(self._root))
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _path(self, name: str) -> str:
        if name.encode("utf-8", "ignore").decode() != name:
            raise OutsideArea(name)  # it has a lone surrogate
        # Object stores have no parent folders, but file: URLs do, and the same names must be valid everywhere.
        clean = posixpath.normpath(name.lstrip("/"))
        if not name or "\0" in name or clean in {".", ".."} or clean.startswith(("../", _PARTS)):
            raise OutsideArea(name)
        path = f"{self._root}/{clean}"
        self._check_links(path)
        return path

    def _check_links(self, path: str) -> None:
        if self._is_local:
            root = Path(self._root).resolve()
            if not Path(path).resolve().is_relative_to(root):
                raise OutsideArea(path)

    def check(self, name: str) -> None:
        self._path(name)

    def write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        with self._part() as part:
            self._system.pipe_file(part, data)
            self._put(part, path)

    def take(self, name: str, source: Path) -> None:
        path = self._path(name)
        with self._part() as part:
            with open(source, "rb") as read, self._system.open(part, "wb") as written:
                shutil.copyfileobj(read, written, _CHUNK)
            self._put(part, path)
        source.unlink()

    @contextlib.contextmanager
    def _part(self) -> Iterator[str]:
        part = f"{self._root}/{_PARTS}/{secrets.token_hex(8)}"
        try:
            with _as_os_errors():
                yield part
        except BaseException:
            with contextlib.suppress(Exception):
                self._system.rm_file(part)
            raise

    def _put(self, part: str, path: str) -> None:
        if self._system.isdir(path):
            raise IsADirectoryError(f"{posixpath.basename(path)!r} is a folder")
        parent = posixpath.dirname(path)
        if parent != self._root and not self._system.isdir(parent):
            raise FileNotFoundError(f"there is no folder {posixpath.basename(parent)!r}")
        if self._synced:
            sync(part)
        self._system.mv(part, path)
        if self._synced:
            sync(parent)

    def read(self, name: str) -> bytes:
        path = self._path(name)
        with _as_os_errors():
            return bytes(self._system.cat_file(path))

    def remove(self, name: str) -> None:
        path = self._path(name)
        with _as_os_errors():
            self._system.rm_file(path)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Opened]:
        path = self._path(name)
        with _as_os_errors():
            # Some file systems cache listings, and another master may have written.
            self._system.invalidate_cache()
            info = self._system.info(path)
            if info.get("type") == "directory":
                raise IsADirectoryError(name)
            file = self._system.open(path, "rb", block_size=_CHUNK)
        with contextlib.closing(file):
            yield Opened(file, int(info["size"]), path, _version(info), _modified(info))

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A temporary copy of the file."""
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            copy = Path(folder) / posixpath.basename(name)
            with self.open(name) as found, open(copy, "wb") as written:
                shutil.copyfileobj(found.file, written, _CHUNK)
            yield copy

    def listed(self) -> list[ListedArtifact]:
        with _as_os_errors():
            self._system.invalidate_cache()
            found = self._system.find(self._root, detail=True)
        files = ((str(path)[len(self._root) :].lstrip("/"), info) for path, info in found.items())
        return [
            ListedArtifact(name, int(info["size"] or 0), _modified(info))
            for name, info in files
            if not name.startswith(_PARTS)
        ]

    def find(self, name: str) -> str | None:
        wanted = posixpath.basename(name)
        with _as_os_errors():
            self._system.invalidate_cache()
            paths = sorted(self._system.find(self._root))
        for path in paths:
            below = str(path)[len(self._root) :].lstrip("/")
            if posixpath.basename(below) == wanted and not below.startswith(_PARTS):
                return below
        return None


def _version(info: dict[str, Any]) -> Hashable:
    marks = (
        info.get(name) for name in ("ETag", "etag", "generation", "ino", "mtime", "created", "LastModified")
    )
    return (info["size"], *(str(mark) for mark in marks if mark is not None))


def _modified(info: dict[str, Any]) -> float:
    for mark in ("mtime", "LastModified", "last_modified", "updated", "created"):
        at = info.get(mark)
        if isinstance(at, str):
            with contextlib.suppress(ValueError):
                at = datetime.fromisoformat(at)
        if isinstance(at, datetime):
            return at.timestamp()
        if isinstance(at, int | float):
            return float(at)
    return 0.0


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Translate a backend's own exceptions into ``OSError``, as callers of ``Area`` expect."""
    try:
        yield
    except (OSError, OutsideArea):
        raise
    except Exception as exc:
        raise OSError(f"{type(exc).__name__}: {exc}") from exc
