"""Uploaded archives on a node: fetched from Ray's object store once per content, kept by their hash."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray

from titan_sdk.cluster.engines.ray.inside.node.node_folders import NodeFolders
from titan_sdk.cluster.engines.staging import StagingFailed

__all__ = ["NodeArchives"]

_KEPT = 32
"""The most archives that a node keeps; the least recently used are removed."""


class NodeArchives:
    """The archive of one run, as `stage` needs it."""

    def __init__(self, folders: NodeFolders, archive: tuple[str, str] | None, content: Sequence[Any]) -> None:
        self._folder = folders.archives
        self._archive = archive
        self._content = content

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """The file of that name.

        Raises:
            FileNotFoundError: it did not come with the run.
        """
        if self._archive is None or self._archive[0] != name:
            raise FileNotFoundError(name)
        path = self._folder / f"{self._archive[1]}.zip"
        try:
            os.utime(path)
        except FileNotFoundError:
            self._fetch(path)
        # It is opened by name later. It was just used, so it is not removed.
        yield path

    def _fetch(self, path: Path) -> None:
        if not self._content:
            raise FileNotFoundError(path.name)
        data: bytes = ray.get(self._content[0])
        if hashlib.sha256(data).hexdigest() != path.stem:
            raise StagingFailed("its archive did not arrive intact on the node; submit the job again")
        part = path.with_name(f".{secrets.token_hex(6)}.part")
        part.write_bytes(data)
        os.replace(part, path)
        kept = sorted(self._folder.glob("*.zip"), key=lambda file: file.stat().st_mtime, reverse=True)
        for old in kept[_KEPT:]:
            old.unlink(missing_ok=True)
