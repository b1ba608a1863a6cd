"""Fetches a project's zip from the master and unpacks it for one attempt.

The zip is not trusted. Nothing is written outside the folder, links and devices are refused, the unpacked size is
bounded, and every member's checksum is verified.
"""

from __future__ import annotations

import os

from . import limits, store
from .c_modules import partial, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator

_FILE, _FOLDER = 0o100000, 0o040000


def fetch(master: store.StoreConnection, name: str, until: Callable[[], float]) -> bytes:
    """The zip that the master has now.

    Raises:
        StoreError: the master cannot be reached, or the file stays an incomplete zip.
        FileNotFoundError: the master has no file of that name.
    """

    def whole() -> bytes:
        data = master.upload(name)
        # A zip's directory is at its end. While the file is being overwritten, the directory is missing or does not match.
        if b"PK\x05\x06" not in data[-66000:]:
            raise store.StoreError(
                "what the master holds as %r is not a whole zip (%d bytes)" % (name, len(data))
            )
        return data

    return store.persist(whole, until)


def fetch_parts(
    master: store.StoreConnection,
    packed: Dict[str, Any],
    path: str,
    deadline: Callable[[], Callable[[], float]],
) -> None:
    """Write the zip of a spec to a new file, one part at a time.

    Raises:
        StoreError: the master cannot be reached, or does not have exactly the submitted bytes.
        OSError: the worker's disk.
    """
    digest = sha256()
    with open(path, "xb") as file:
        for piece in _pieces(master, packed, deadline):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != packed["sha256"]:
        raise store.StoreError(
            "what the master holds as %r is not what was submitted; submit the job again" % packed["asset"]
        )


def _pieces(
    master: store.StoreConnection, packed: Dict[str, Any], deadline: Callable[[], Callable[[], float]]
) -> Iterator[bytes]:
    name, digest = packed["asset"], packed["sha256"]
    parts = packed.get("parts")
    if parts:
        for part in parts:
            # The name as titan_sdk.runtime.bundle.part_asset makes it.
            asked = partial(master.asset, "titan-part-%s.bin" % part[:32], part)
            yield store.persist(asked, deadline())
    elif master.trusted and packed["bytes"] > limits.PROJECT_WHOLE:
        offset = 0
        while offset < packed["bytes"]:
            piece = store.persist(partial(master.asset_piece, name, digest, offset), deadline())
            offset += len(piece)
            yield piece
    else:
        yield store.persist(partial(master.asset, name, digest), deadline())


def unpack(zipped: Any, folder: bytes, name: str) -> None:
    """Unpack the zip, a path or an open file, to `folder`, which must not exist yet.

    Raises:
        ValueError: the zip is damaged, too large, or has a path outside the folder.
    """
    import zipfile

    os.mkdir(folder, 0o700)
    left = limits.PROJECT_SIZE
    try:
        with zipfile.ZipFile(zipped) as archive:
            members = archive.infolist()
            if len(members) > limits.PROJECT_FILES:
                raise ValueError("it has more than %d members" % limits.PROJECT_FILES)
            for member in members:
                left -= put_member(archive, member, folder, left, limits.PROJECT_SIZE)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as exc:
        raise ValueError("the archive %r cannot be unpacked: %s" % (name, exc)) from None
    except Exception as exc:
        if type(exc).__module__ not in ("zlib", "lzma", "_lzma"):
            raise
        raise ValueError("the archive %r is damaged: %s" % (name, exc)) from None


def put_member(archive: Any, member: Any, folder: bytes, left: int, most: int) -> int:
    name = member.filename.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or not parts or "\0" in name:
        raise ValueError("its member %r lies outside of it" % member.filename)
    kind = (member.external_attr >> 16) & 0o170000
    if kind not in (0, _FILE, _FOLDER):
        raise ValueError("its member %r is a link or a device" % member.filename)
    path = b"/".join([folder] + [part.encode("utf-8", "surrogateescape") for part in parts])
    if name.endswith("/"):
        os.makedirs(path, 0o700, True)
        return 0
    os.makedirs(os.path.dirname(path), 0o700, True)
    written = 0
    with archive.open(member) as source, open(path, "wb") as target:
        while True:
            piece = source.read(1 << 18)
            if not piece:
                break
            written += len(piece)
            if written > left:
                raise ValueError("it unpacks to more than %d bytes" % most)
            target.write(piece)
    if (member.external_attr >> 16) & 0o100:
        os.chmod(path, 0o700)
    return written
