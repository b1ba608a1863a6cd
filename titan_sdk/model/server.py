"""The kind of the master, and its features."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServerInfo"]


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Which master answers. ``kind`` is ``"bundled"`` (this project's) or ``"titan"`` (the real one)."""

    kind: str
    version: str | None = None
    features: frozenset[str] = frozenset()
    runtime: str | None = None
    """SHA-256 of the launcher that the workers have loaded. A submit need not upload this launcher."""

    def has(self, feature: str) -> bool:
        """Whether the master announced that extension (docs/protocol.md)."""
        return feature in self.features

    @property
    def is_bundled(self) -> bool:
        """Whether it is this project's own master, which stores what it acknowledges and keeps submissions apart."""
        return self.kind == "bundled"

    def __str__(self) -> str:
        name = "bundled master" if self.is_bundled else "Titan master"
        return f"{name} {self.version}" if self.version else name
