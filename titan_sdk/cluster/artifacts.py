"""Files by name: the artifact registry (``uploads``) and deployed scripts (``perm_files``)."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from titan_sdk.cluster.disk import sync
from titan_sdk.model.listing import ListedArtifact

__all__ = ["Area", "FileArea", "Opened", "OutsideArea"]


class OutsideArea(Exception):
    """The name points outside its folder."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is being read."""

    file: BinaryIO
    size: int
    key: str
    """The file's one name, however it was asked for."""
    version: Hashable
    """Changes when the file is replaced."""


class Area(Protocol):
    """Files that strangers name. Writing replaces a file as a whole or not at all.

    Everything but ``check`` may block: call it in a thread. Everything raises ``OutsideArea`` for a name that is none
    or lies outside, ``FileNotFoundError`` for a file that is not there, and ``OSError``.
    """

    def check(self, name: str) -> None:
        """Whether that may be the name of a file here."""

    def write(self, name: str, data: bytes) -> None: ...

    def take(self, name: str, source: Path) -> None:
        """Store a complete file of this machine; the source is gone afterwards."""

    def read(self, name: str) -> bytes: ...

    def open(self, name: str) -> AbstractContextManager[Opened]:
        """To read a file piece by piece."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """The file on this machine's disk, as long as the block lasts."""

    def listed(self) -> list[ListedArtifact]:
        """All files, in no order."""

    def find(self, name: str) -> str | None:
        """The name here of a file with that base name, as RUN looks for it."""


class FileArea:
    """A folder of this machine.

    Args:
        synced: a file that was written outlives a power cut, too.
    """

    def __init__(self, root: Path, *, synced: bool = False) -> None:
        self._root = root.resolve()
        self._synced = synced

    def path(self, name: str) -> Path:
        """Where a file of that name is or would be; an absolute name is taken as relative, as Titan does.

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
        """See ``Area``."""
        self.path(name)

    def write(self, name: str, data: bytes) -> None:
        """See ``Area``."""
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
        """See ``Area``."""
        self._replace(source, self.path(name))

    def _replace(self, source: Path, path: Path) -> None:
        if self._synced:
            sync(source)
        os.replace(source, path)
        if self._synced:
            sync(path.parent)

    def read(self, name: str) -> bytes:
        """See ``Area``."""
        return self.path(name).read_bytes()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Opened]:
        """See ``Area``."""
        path = self.path(name)
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            version = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            yield Opened(file, stat.st_size, str(path), version)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """See ``Area``."""
        path = self.path(name)
        if not path.is_file():
            raise FileNotFoundError(name)
        yield path

    def listed(self) -> list[ListedArtifact]:
        """See ``Area``."""
        found = []
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError, UnicodeError):
                    stat = os.stat(path, follow_symlinks=False)
                    shown = os.path.relpath(path, self._root)
                    shown.encode()  # else it has no name that a reply can hold
                    if not (name.startswith(".") and name.endswith(".part")):
                        found.append(ListedArtifact(shown, stat.st_size, stat.st_mtime))
        return found

    def find(self, name: str) -> str | None:
        """See ``Area``."""
        wanted = Path(name).name
        for folder, _, files in os.walk(self._root):
            if wanted in files:
                return str((Path(folder) / wanted).relative_to(self._root))
        return None
