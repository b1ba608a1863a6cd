"""An artifact as the registry of a master knows it."""

from __future__ import annotations

__all__ = ["ArtifactRef"]


class ArtifactRef(str):
    """An uploaded artifact. As a text it equals the master's reply, ``UPLOAD_SUCCESS`` or ``DEPLOY_SUCCESS``, which
    programs for upstream's SDK compare it with.
    """

    __slots__ = ("bytes", "name", "sha256")
    name: str
    """The name under which ``fetch_artifact`` finds it."""
    bytes: int
    """The size in bytes."""
    sha256: str
    """The SHA-256 of the content, in hex."""

    def __new__(cls, name: str, size: int, sha256: str, word: str = "UPLOAD_SUCCESS") -> ArtifactRef:
        self = super().__new__(cls, word)
        self.name, self.bytes, self.sha256 = name, size, sha256
        return self

    def __reduce__(self) -> tuple[type[ArtifactRef], tuple[str, int, str, str]]:
        return ArtifactRef, (self.name, self.bytes, self.sha256, str(self))

    def __repr__(self) -> str:
        return f"ArtifactRef(name={self.name!r}, bytes={self.bytes}, sha256={self.sha256!r})"
