"""Transfers of files: in chunks with bounded memory on the bundled master, else in one frame (section 8.2)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from titan_sdk.errors import (
    ConnectionLost,
    CorruptData,
    PayloadTooLarge,
    RequestRefused,
    TimedOut,
    TitanError,
)
from titan_sdk.flows.core import Flow, ask, blocking
from titan_sdk.flows.server import server_info
from titan_sdk.model.artifact import ArtifactRef
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls
from titan_sdk.wire.extensions import BEGIN_AGAIN, CHUNK_SIZE, AssetWrite
from titan_sdk.wire.frames import MAX_PAYLOAD

__all__ = ["Progress", "download", "receive", "send_stream"]

Progress = Callable[[int, int], None]
"""Called with the bytes transferred so far and the bytes in all; under asyncio on another thread."""

_BEGINNINGS = 5
"""How often an upload is begun if its master is restarted meanwhile."""


def send_stream(
    session: Session, name: str, source: IO[bytes], size: int, progress: Progress | None
) -> Flow[ArtifactRef]:
    """Store ``size`` bytes of a stream, from its current position.

    Raises:
        PayloadTooLarge: the master takes one frame only, and the file needs more. Nothing was sent.
    """
    info = yield from server_info(session)
    if "chunked_artifacts" not in info.features:
        return (yield from _send_whole(name, source, size, progress))
    start = source.tell()
    for _ in range(_BEGINNINGS - 1):
        try:
            return (yield from _send_chunks(name, source, size, progress))
        except RequestRefused as exc:
            if BEGIN_AGAIN not in exc.detail:
                raise
            # The master was restarted; no part of the artifact is in place.
            yield from blocking(partial(source.seek, start))
    return (yield from _send_chunks(name, source, size, progress))


def _send_chunks(name: str, source: IO[bytes], size: int, progress: Progress | None) -> Flow[ArtifactRef]:
    upload, digest, offset = secrets.token_hex(8), hashlib.sha256(), 0
    while True:
        content = yield from blocking(partial(_read_chunk, source, digest))
        last = offset + len(content) >= size
        final = digest.hexdigest() if last else None
        try:
            yield from ask(extended_calls.asset_write(AssetWrite(name, upload, offset, final, content)))
        except (ConnectionLost, TimedOut) as exc:
            if not last or not (yield from _is_there(name, offset + len(content), digest.hexdigest())):
                raise exc
        offset += len(content)
        yield from _report(progress, offset, size)
        if last:
            return ArtifactRef(name, offset, digest.hexdigest())


def _is_there(name: str, size: int, sha256: str) -> Flow[bool]:
    """Whether the master has the sent artifact, after a lost reply."""
    try:
        return (yield from ask(extended_calls.asset_read(name, size))).sha256 == sha256
    except TitanError:
        return False


def _send_whole(name: str, source: IO[bytes], size: int, progress: Progress | None) -> Flow[ArtifactRef]:
    limit = (MAX_PAYLOAD - len(name.encode()) - 1) // 4 * 3
    if size > limit:
        raise PayloadTooLarge(
            f"upload of {name!r} ({size:,} bytes)",
            len(name.encode()) + 1 + (size + 2) // 3 * 4,
            MAX_PAYLOAD,
            f"a file of up to {limit:,} bytes fits; make it smaller or put it where the workers can read it",
        )
    data = yield from blocking(source.read)
    yield from ask(calls.upload_asset(name, data))
    yield from _report(progress, len(data), size)
    return ArtifactRef(name, len(data), hashlib.sha256(data).hexdigest())


def download(session: Session, name: str, target: Path, progress: Progress | None) -> Flow[None]:
    """Write an artifact to a file, whole or not at all.

    Raises:
        NotFound: there is none of that name.
        CorruptData: what arrived does not match the master's checksum.
    """
    neighbour = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with (yield from blocking(partial(_open_new, neighbour))) as file:
            yield from receive(session, name, file, progress)
        yield from blocking(partial(neighbour.replace, target))
    finally:
        neighbour.unlink(missing_ok=True)


def receive(
    session: Session, name: str, file: IO[bytes], progress: Progress | None = None
) -> Flow[ArtifactRef]:
    """Write an artifact's bytes to an open file; the same errors as ``download``."""
    info = yield from server_info(session)
    if "chunked_artifacts" in info.features:
        return (yield from _receive_chunks(name, file, progress))
    data = yield from ask(calls.fetch_asset(name))
    yield from blocking(partial(file.write, data))
    yield from _report(progress, len(data), len(data))
    return ArtifactRef(name, len(data), hashlib.sha256(data).hexdigest())


def _receive_chunks(name: str, file: IO[bytes], progress: Progress | None) -> Flow[ArtifactRef]:
    digest = hashlib.sha256()
    chunk = yield from ask(extended_calls.asset_read(name, 0))
    size, sha256, offset = chunk.size, chunk.sha256, 0
    while True:
        yield from blocking(partial(_append, file, digest, chunk.content))
        offset += len(chunk.content)
        yield from _report(progress, offset, size)
        if offset >= size or not chunk.content:
            break
        chunk = yield from ask(extended_calls.asset_read(name, offset, sha256))
    if digest.hexdigest() != sha256:
        raise CorruptData(f"fetch of {name!r}: {offset} bytes arrived, but not those of checksum {sha256}")
    return ArtifactRef(name, offset, sha256)


def _read_chunk(source: IO[bytes], digest: hashlib._Hash) -> bytes:
    content = source.read(CHUNK_SIZE)
    digest.update(content)
    return content


def _append(file: IO[bytes], digest: hashlib._Hash, content: bytes) -> None:
    file.write(content)
    digest.update(content)


def _open_new(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("xb")


def _report(progress: Progress | None, done: int, size: int) -> Flow[None]:
    if progress is not None:
        yield from blocking(partial(progress, done, size))
