"""Files by name: the artifact registry (``uploads``) and deployed scripts (``perm_files``)."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["FileArea", "OutsideArea"]


class OutsideArea(Exception):
    """The name points outside its folder."""


class FileArea:
    """A folder whose files strangers name. Writing replaces a file as a whole or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def path(self, name: str) -> Path:
        """Where a file of that name is or would be; an absolute name is taken as relative, as Titan does.

        Raises:
            OutsideArea: it would lie elsewhere, or it is not a name.
        """
        if "\0" in name:
            raise OutsideArea(name)
        path = (self._root / name.lstrip("/")).resolve()
        if path == self._root or not path.is_relative_to(self._root):
            raise OutsideArea(name)
        return path

    def write(self, name: str, data: bytes) -> None:
        """Store a file.

        Raises:
            OutsideArea, OSError
        """
        path = self.path(name)
        part = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with open(part, "xb") as file:
                file.write(data)
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    def read(self, name: str) -> bytes:
        """The file's bytes.

        Raises:
            OutsideArea, OSError
        """
        return self.path(name).read_bytes()

    def find(self, name: str) -> Path | None:
        """A file of that base name anywhere in the area, as RUN looks for it."""
        wanted = Path(name).name
        for folder, _, files in os.walk(self._root):
            if wanted in files:
                return Path(folder) / wanted
        return None
