"""Artifacts and scripts: in one frame, as in Titan v1, or in chunks, checked by SHA-256."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from titan_sdk.cluster.artifacts import Area, Opened, OutsideArea
from titan_sdk.errors import PeerProtocolError
from titan_sdk.runtime.bundle import CONTENT_NAME, runtime_bundle
from titan_sdk.wire.extensions import (
    BEGIN_AGAIN,
    CHUNK_SIZE,
    AssetRead,
    AssetWrite,
    join_content,
    read_object,
    write_object,
)
from titan_sdk.wire.fields import decode_base64, split_pair

__all__ = ["Files", "store_file"]

_STALE_SECONDS = 3600.0
"""Seconds without a chunk after which an upload is dropped."""
_MAX_UPLOADS = 64
_NAME = re.compile(r"[0-9a-f]{16}")


@dataclass
class _Upload:
    path: Path
    name: str
    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    touched: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Files:
    """The artifact registry, and the deployed scripts.

    Args:
        incoming: folder for what has not arrived entirely.
        keep: seconds after which a file that travels with jobs is removed when no job needs it (retention.py).
    """

    def __init__(self, uploads: Area, scripts: Area, incoming: Path, keep: float | None = None) -> None:
        self._area = uploads
        self._scripts = scripts
        self._incoming = incoming
        self._keep = keep
        self._uploads: dict[str, _Upload] = {}
        self._checksums: dict[str, tuple[Hashable, str]] = {}
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        for left in self._incoming.iterdir():
            # The running checksum of an upload was lost with the last master; its client begins again.
            left.unlink(missing_ok=True)

    async def upload(self, payload: str) -> str:
        return await store_file(self._area, payload, "UPLOAD", "asset")

    async def deploy_script(self, payload: str) -> str:
        return await store_file(self._scripts, payload, "DEPLOY", "script")

    async def fetch(self, payload: str) -> str:
        try:
            data = await asyncio.to_thread(self._area.read, payload.strip())
        except (OutsideArea, FileNotFoundError):
            if payload.strip() != runtime_bundle().name:
                return "ERROR_NOT_FOUND"
            # The launcher that HELLO announces is served without an upload.
            data = runtime_bundle().data
        except OSError as exc:
            return f"ERROR_READING_FILE: {exc.strerror}"
        return base64.b64encode(data).decode("ascii")

    # ------------------------------------------------------------------ in chunks

    async def write(self, payload: bytes) -> str:
        """Store one chunk. The last one puts the artifact in place."""
        chunk = AssetWrite.decode(payload)
        try:
            self._area.check(chunk.name)
        except OutsideArea:
            return "ERROR: Invalid asset name (path traversal rejected)"
        if not _NAME.fullmatch(chunk.upload):
            return f"ERROR: the upload's name {chunk.upload[:40]!r} is not 16 hex digits"
        upload = self._uploads.get(chunk.upload)
        if upload is None:
            self._drop_stale()
            if chunk.offset:
                return f"ERROR: upload {chunk.upload} is not known (any more); {BEGIN_AGAIN}"
            if len(self._uploads) >= _MAX_UPLOADS:
                return f"ERROR: {_MAX_UPLOADS} uploads are under way; try again later"
            upload = self._uploads[chunk.upload] = _Upload(self._incoming / chunk.upload, chunk.name)
        async with upload.lock:
            return await self._write_chunk(upload, chunk)

    async def _write_chunk(self, upload: _Upload, chunk: AssetWrite) -> str:
        end = chunk.offset + len(chunk.content)
        if chunk.offset > upload.size or (chunk.offset < upload.size < end) or upload.name != chunk.name:
            return f"ERROR: upload {chunk.upload} has {upload.size} bytes; {chunk.offset} does not go on from there"
        try:
            if end > upload.size:
                await asyncio.to_thread(_append, upload, chunk)
            upload.touched = time.monotonic()
            if chunk.sha256 is not None:
                return await asyncio.to_thread(self._finish, upload, chunk)
        except OSError as exc:
            self._forget(chunk.upload)
            return f"UPLOAD_FAILED: {exc.strerror or exc}"
        return write_object(size=upload.size)

    def _finish(self, upload: _Upload, chunk: AssetWrite) -> str:
        found = upload.digest.hexdigest()
        if found != chunk.sha256:
            self._forget(chunk.upload)
            return f"ERROR: checksum: {upload.size} bytes arrived with {found}, not {chunk.sha256}"
        if upload.size == 0:
            upload.path.touch()
        self._area.take(upload.name, upload.path)
        self._uploads.pop(chunk.upload, None)
        return write_object(size=upload.size)

    def _forget(self, name: str) -> None:
        upload = self._uploads.pop(name, None)
        if upload is not None:
            upload.path.unlink(missing_ok=True)

    def _drop_stale(self) -> None:
        limit = time.monotonic() - _STALE_SECONDS
        for name in [name for name, upload in self._uploads.items() if upload.touched < limit]:
            self._forget(name)

    async def read(self, payload: bytes) -> str | bytes:
        """One chunk of an artifact, with the size and checksum of the whole."""
        request = AssetRead.decode(payload.decode("utf-8", "replace"))
        try:
            return await asyncio.to_thread(self._read_chunk, request)
        except (OutsideArea, FileNotFoundError):
            return f"ERROR_NOT_FOUND: no artifact {request.name!r}"
        except OSError as exc:
            return f"ERROR_READING_FILE: {exc.strerror or exc}"

    async def delete(self, payload: bytes) -> str:
        """Remove an artifact."""
        name = read_object(payload.decode("utf-8", "replace")).want("name", str)
        try:
            await asyncio.to_thread(self._area.remove, name)
        except (OutsideArea, FileNotFoundError):
            return write_object(deleted=False)
        except OSError as exc:
            return f"ERROR: the artifact {name!r} cannot be removed: {exc.strerror or exc}"
        return write_object(deleted=True)

    def _is_old(self, name: str, found: Opened) -> bool:
        """Whether a file that travels with jobs has half of its time behind it."""
        if self._keep is None or not found.modified_at or not CONTENT_NAME.fullmatch(name):
            return False
        return found.modified_at < time.time() - self._keep / 2

    def _read_chunk(self, request: AssetRead) -> str | bytes:
        with self._area.open(request.name) as found:
            if request.offset > found.size and self._is_old(request.name, found):
                # Whoever asks whether it is there would submit a job with it; sent again, it is new.
                raise FileNotFoundError(request.name)
            known = self._checksums.get(found.key)
            if known is None or known[0] != found.version:
                digest = _sha256(found.file)
                # One checksum per artifact that was read: small, and computed again when it is lost.
                known = self._checksums[found.key] = (found.version, digest)
            if request.sha256 and request.sha256 != known[1]:
                return "ERROR: changed: the artifact was replaced while it was fetched; fetch it again"
            found.file.seek(min(max(request.offset, 0), found.size))
            content = found.file.read(CHUNK_SIZE)
        return join_content(write_object(size=found.size, sha256=known[1]), content)


async def store_file(area: Area, payload: str, word: str, kind: str) -> str:
    """Put a file in place that came in one frame. The reply begins with ``word``."""
    pair = split_pair(payload)
    if pair is None:
        return f"ERROR: Invalid {word.capitalize()} Payload"
    try:
        await asyncio.to_thread(area.write, pair[0], decode_base64(pair[1].strip()))
    except OutsideArea:
        return f"ERROR: Invalid {kind} name (path traversal rejected)"
    except (OSError, PeerProtocolError) as exc:
        return f"{word}_FAILED: {exc}"
    return f"{word}_SUCCESS"


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(CHUNK_SIZE):
        digest.update(piece)
    return digest.hexdigest()


def _append(upload: _Upload, chunk: AssetWrite) -> None:
    with open(upload.path, "ab" if upload.size else "wb") as file:
        file.truncate(upload.size)  # remove the part that a failed write has left
        file.seek(upload.size)
        file.write(chunk.content)
    upload.digest.update(chunk.content)
    upload.size += len(chunk.content)
