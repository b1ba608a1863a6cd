"""How a bundled master is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from titan_sdk.errors import InvalidArgument
from titan_sdk.model.rules import check_requirement

__all__ = ["ClusterSettings", "WorkerSpec"]

# A worker is a folder and a few counters; the bound only catches typing errors.
_MAX_WORKERS = 1000
_MAX_SLOTS = 1000


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker of the cluster. ``port`` is a name only: nothing listens there."""

    name: str
    tag: str
    port: int


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Everything `titan up` can be told.

    Raises:
        InvalidArgument: a value cannot work; the message names it and says what would.
    """

    data_dir: Path
    """Holds state, logs, artifacts and the workers' folders; one master at a time."""
    host: str = "127.0.0.1"
    port: int = 9090
    """0 lets the system choose."""
    workers: Mapping[str, int] = field(default_factory=lambda: {"GENERAL": 2, "GPU": 1})
    """How many workers of each tag."""
    slots: int = 1
    """Jobs a worker runs at once (a real worker: 4)."""
    service_start_seconds: float = 20.0
    """How long a service may take until its port answers; as long as a real master waits."""
    max_connections: int = 1000
    frame_timeout_seconds: float = 30.0
    """A peer that has sent part of a frame and then nothing for so long is cut off."""
    idle_timeout_seconds: float = 300.0
    """A connection without any request is closed after so long."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_dir", Path(self.data_dir).absolute())
        object.__setattr__(self, "workers", MappingProxyType(dict(self.workers)))
        if not 0 <= self.port <= 65535:
            raise InvalidArgument(f"port {self.port} is no TCP port; give 1 to 65535, or 0 for any free one")
        if not self.host:
            raise InvalidArgument("host is empty; give 127.0.0.1 to listen on this machine only")
        if not 1 <= self.slots <= _MAX_SLOTS:
            raise InvalidArgument(f"slots={self.slots}: a worker runs 1 to {_MAX_SLOTS} jobs at once")
        for tag, count in self.workers.items():
            problem = check_requirement(tag)
            if problem is not None:
                raise InvalidArgument(f"worker tag {tag!r} {problem}")
            if count < 0:
                raise InvalidArgument(
                    f"workers={{{tag!r}: {count}}}: the number of workers cannot be negative"
                )
        total = sum(self.workers.values())
        if not 1 <= total <= _MAX_WORKERS:
            raise InvalidArgument(f"{total} workers: a cluster has 1 to {_MAX_WORKERS}")

    def worker_specs(self) -> list[WorkerSpec]:
        """The workers by name (``GPU-1``), with the port that statistics show for each."""
        names = [(f"{tag}-{n}", tag) for tag, count in self.workers.items() for n in range(1, count + 1)]
        return [WorkerSpec(name, tag, 8080 + index) for index, (name, tag) in enumerate(names)]
