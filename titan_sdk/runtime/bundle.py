"""The assets that a job with the runtime needs on the master. Each is named by the hash of its content."""

from __future__ import annotations

import functools
import hashlib
import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CONTENT_NAME", "Asset", "blob_asset", "part_asset", "runtime_bundle", "runtime_files"]

CONTENT_NAME = re.compile(r"titan-(?:project|part|blob)-[0-9a-f]{32}\.(?:zip|bin)")
"""Names of assets that are not the runtime itself. A master may remove them, because a submit uploads them again."""
_WORKER = Path(__file__).with_name("worker")
_VALUES = Path(__file__).with_name("values")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file to upload under `name`, unless the master has it. Equal names mean equal bytes."""

    name: str
    data: bytes
    sha256: str

    def __repr__(self) -> str:
        return f"Asset({self.name!r}, {len(self.data)} bytes)"


def _named(stem: str, suffix: str, data: bytes) -> Asset:
    digest = hashlib.sha256(data).hexdigest()
    return Asset(f"{stem}-{digest[:32]}{suffix}", data, digest)


def blob_asset(data: bytes) -> Asset:
    """A script too large for the job's stub."""
    return _named("titan-blob", ".bin", data)


def part_asset(digest: str, data: bytes) -> Asset:
    """A part of a project that is too large for one packet. The launcher makes the name from the digest in the same way."""
    return Asset(f"titan-part-{digest[:32]}.bin", data, digest)


def runtime_files() -> dict[str, Path]:
    """The files of the bundle, by their path in it: ``worker/`` is the package ``titan_runtime``, ``values/`` is for jobs."""
    files = {path.relative_to(_WORKER).as_posix(): path for path in _WORKER.rglob("*.py")}
    files |= {f"lib/titan_values/{path.name}": path for path in _VALUES.glob("*.py")}
    return {f"titan_runtime/{name}": path for name, path in files.items()}


@functools.cache
def runtime_bundle() -> Asset:
    """The zip of the runtime's files: the same bytes wherever this version is installed."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in sorted(runtime_files().items()):
            # Stored, with a fixed date and system: another zlib, clock or checkout must not change the hash.
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes().replace(b"\r\n", b"\n"))
    return _named("titan-runtime", ".zip", target.getvalue())
