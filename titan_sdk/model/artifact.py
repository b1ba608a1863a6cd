"""An artifact as the registry of a master knows it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ArtifactRef"]


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """What was uploaded: the name to fetch it by, its size in bytes, the SHA-256 of its content in hex."""

    name: str
    bytes: int
    sha256: str
