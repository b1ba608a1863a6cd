"""Transfers files between a folder of the worker and the master's registry, in bounded memory.

A bundled master transfers a file in pieces. A real one takes one packet, so a larger file becomes several files there,
called ``<name>.1of3`` and so on. The reference lists their checksums.
"""

from __future__ import annotations

import binascii
import os

from . import limits, store
from .c_modules import dumps, partial, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List

    Deadline = Callable[[], Callable[[], float]]
    """Returns the deadline of one exchange."""

ASSET_WRITE, ASSET_READ, ASSET_DELETE = 0x44, 0x45, 0x4E
_BEYOND = 1 << 40
"""An offset beyond every artifact's end."""
_BEGINNINGS = 5
"""How often an upload begins if the master restarts meanwhile."""


class Gone(Exception):
    """The master does not have the file, so a repetition does not help."""


class _BeginAgain(Exception):
    """The master has forgotten the upload."""


def name_of(full_id: str, nonce: str, label: str) -> str:
    """The name in the registry of a run's file. The file is removed when the run is forgotten.

    ``titan_sdk.runtime.keys.run_artifacts`` makes the beginning of these names.
    """
    short = full_id[4:] if full_id.startswith("DAG-") else full_id
    if len(short) > 100:
        short = "%s-%s" % (short[:83], sha256(short.encode("utf-8", "replace")).hexdigest()[:16])
    return "run~%s~%s~%s" % (short, nonce, label)


def plain(text: str, longest: int = 60) -> str:
    """A text as a part of such a name. Of a long text, its end."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text)[-longest:]


def part_name(name: str, index: int, count: int) -> str:
    return "%s.%dof%d" % (name, index + 1, count)


def send(
    master: store.StoreConnection, name: str, path: Any, deadline: Deadline, alive: Callable[[], None]
) -> Dict[str, Any]:
    """Store a file. Returns the fields of its reference: ``name``, ``size``, ``sha256``, and ``parts`` if it has parts.

    Args:
        alive: called between the pieces; its exception ends the upload.

    Raises:
        StoreError: the master does not take it.
        OSError: the file cannot be read.
    """
    if not master.trusted:
        return _send_parts(master, name, path, deadline, alive)
    for _ in range(_BEGINNINGS - 1):
        try:
            return _send_pieces(master, name, path, deadline, alive)
        except _BeginAgain:
            alive()
    try:
        return _send_pieces(master, name, path, deadline, alive)
    except _BeginAgain:
        raise store.StoreError(
            "master %s keeps forgetting the upload of %s" % (master.address, name)
        ) from None


def _send_pieces(
    master: store.StoreConnection, name: str, path: Any, deadline: Deadline, alive: Callable[[], None]
) -> Dict[str, Any]:
    upload, digest, offset = binascii.hexlify(os.urandom(8)).decode(), sha256(), 0
    with open(path, "rb") as file:
        piece = file.read(limits.PIECE)
        while True:
            digest.update(piece)
            following = file.read(limits.PIECE)
            whole = None if following else digest.hexdigest()
            head = '{"name":%s,"upload":"%s","offset":%d,"sha256":%s}\n' % (
                dumps(name),
                upload,
                offset,
                dumps(whole),
            )
            store.persist(partial(_write, master, name, head.encode("ascii") + piece), deadline())
            offset += len(piece)
            if whole:
                return {"name": name, "size": offset, "sha256": whole}
            piece = following
            alive()


def _write(master: store.StoreConnection, name: str, payload: bytes) -> None:
    reply = master.call(ASSET_WRITE, payload)
    if reply.startswith(b"{"):
        return
    if b"begin again" in reply:
        raise _BeginAgain
    raise store.StoreError("master %s does not take %s: %r" % (master.address, name, reply[:200]))


def _send_parts(
    master: store.StoreConnection, name: str, path: Any, deadline: Deadline, alive: Callable[[], None]
) -> Dict[str, Any]:
    size, digest = os.stat(path).st_size, sha256()
    count = max(1, -(-size // limits.PART))
    parts: List[str] = []
    with open(path, "rb") as file:
        for index in range(count):
            piece = file.read(limits.PART)
            digest.update(piece)
            called = name if count == 1 else part_name(name, index, count)
            store.persist(partial(master.keep, called, piece), deadline())
            parts.append(sha256(piece).hexdigest())
            alive()
    found = {"name": name, "size": size, "sha256": digest.hexdigest()}
    return found if count == 1 else dict(found, parts=parts)


def receive(
    master: store.StoreConnection,
    ref: Dict[str, Any],
    path: Any,
    deadline: Deadline,
    alive: Callable[[], None],
) -> None:
    """Write the file of a reference to a new file.

    Raises:
        StoreError: the master cannot be reached, or does not have exactly the bytes of the reference.
        OSError: the worker's disk.
    """
    digest = sha256()
    with open(path, "xb") as file:
        for piece in _pieces(master, ref, deadline):
            digest.update(piece)
            file.write(piece)
            alive()
    if digest.hexdigest() != ref["sha256"]:
        raise store.StoreError(
            "what master %s holds as %r is not what was meant: its checksum differs, so it was replaced"
            % (master.address, ref["name"])
        )


def _pieces(master: store.StoreConnection, ref: Dict[str, Any], deadline: Deadline) -> Any:
    name, whole, parts = ref["name"], ref["sha256"], ref.get("parts")
    if parts:
        for index, digest in enumerate(parts):
            asked = partial(master.asset, part_name(name, index, len(parts)), digest)
            yield store.persist(asked, deadline())
    elif master.trusted:
        offset = 0
        while True:
            piece = store.persist(partial(_read, master, name, whole, offset), deadline())
            yield piece
            offset += len(piece)
            if not piece or offset >= ref["size"]:
                return
    else:
        yield store.persist(partial(master.asset, name, whole), deadline())


def _read(master: store.StoreConnection, name: str, digest: str, offset: int) -> bytes:
    asked = '{"name":%s,"offset":%d,"sha256":"%s"}' % (dumps(name), offset, digest)
    head, _, content = master.call(ASSET_READ, asked.encode("ascii")).partition(b"\n")
    if head.startswith(b"{"):
        return content
    if head.startswith((b"ERROR_NOT_FOUND", b"ERROR: changed")):
        raise Gone(
            "master %s has no file %r of that checksum any more; it was removed or replaced"
            % (master.address, name)
        )
    raise store.StoreError("master %s cannot give %r: %r" % (master.address, name, head[:200]))


def look(master: store.StoreConnection, name: str) -> Dict[str, Any]:
    """The file that a trusted master has under a name now."""
    asked = '{"name":%s,"offset":%d,"sha256":""}' % (dumps(name), _BEYOND)
    head = master.call(ASSET_READ, asked.encode("ascii")).partition(b"\n")[0]
    if not head.startswith(b"{"):
        raise Gone("master %s has no artifact %r" % (master.address, name))
    import json

    found = json.loads(head)
    return {"name": name, "size": found["size"], "sha256": found["sha256"]}


def remove(master: store.StoreConnection, ref: Dict[str, Any], deadline: Deadline) -> None:
    """Delete the file of a reference. A real master cannot delete, so there the files become empty."""
    parts = ref.get("parts") or []
    names = [part_name(ref["name"], i, len(parts)) for i in range(len(parts))] or [ref["name"]]
    for name in names:
        if master.trusted:
            asked = ('{"name":%s}' % dumps(name)).encode("ascii")
            store.persist(partial(master.call, ASSET_DELETE, asked), deadline())
        else:
            store.persist(partial(master.keep, name, b""), deadline())
