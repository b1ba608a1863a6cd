"""What front, dispatcher and nodes tell each other, as values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from titan_sdk.cluster.engines.ray.stream import pack, unpack

__all__ = [
    "KEPT_ARCHIVES",
    "NAMESPACE",
    "NOT_KNOWN",
    "PROTOCOL",
    "Front",
    "FrontUnreachable",
    "NodeResult",
    "NodeState",
    "Order",
    "Resources",
    "Setup",
    "WrongProtocol",
]

PROTOCOL = 6
"""Raised with every change of what a front and a dispatcher tell each other."""
NAMESPACE = "titan"
"""Of the actors' names in Ray."""
NOT_KNOWN = "ERROR: no run of that name is waited for"
"""The front's reply to output that nobody wants."""
KEPT_ARCHIVES = 64
"""Archives that a dispatcher keeps in Ray's object store."""


class WrongProtocol(Exception):
    """Front and dispatcher are of versions that do not understand each other; one sentence."""


class FrontUnreachable(Exception):
    """The cluster cannot reach the front at the address that it was given; one sentence."""


class Resources(NamedTuple):
    """What one job asks of a node, in Ray's words."""

    cpus: float = 0.0
    gpus: float = 0.0
    custom: tuple[tuple[str, float], ...] = ()

    def as_ray(self) -> dict[str, float]:
        """As `ray.nodes()` names them."""
        found = {"CPU": self.cpus, "GPU": self.gpus, **dict(self.custom)}
        return {name: amount for name, amount in found.items() if amount > 0}


class Order(NamedTuple):
    """One run, as its node needs it."""

    run: str
    job_id: str
    line: str
    """As ``admission.dump_line`` writes it."""
    archive: tuple[str, str] | None = None
    """Name and content hash of the uploaded file that it needs."""

    def encode(self) -> bytes:
        return json.dumps(self).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Order:
        """The reverse of ``encode``."""
        return cls(*json.loads(data))


@dataclass(frozen=True, slots=True)
class Front:
    """How the cluster reaches a front, and what jobs inherit from it."""

    host: str
    port: int
    key: str = field(repr=False)
    """Proves that a stream is the dispatcher's that was told of this front."""
    environment: dict[str, str] = field(default_factory=dict)
    log_limit: int = 0
    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    """PEM text that the front's certificate is checked against; ``None``: no TLS."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Front:
        """The reverse of ``encode``."""
        return cls(**json.loads(data))


@dataclass(frozen=True, slots=True)
class NodeResult:
    """How a run ended, as its node or the dispatcher saw it."""

    code: int | None = None
    """As a shell reports it; ``None`` where nobody knows."""
    node: str | None = None
    """Where it began."""
    killed: bool = False
    refused: str | None = None
    """Why it can never run."""
    lost: str | None = None
    """Why its outcome is not known."""
    offset: int = 0
    """Where in the run's output its last piece, which travels with this, begins."""

    record: str = ""
    """What its launcher handed in last; see ``FinalRecords``."""

    def encode(self, tail: bytes = b"") -> bytes:
        return pack(asdict(self), tail)

    @classmethod
    def decode(cls, data: bytes) -> tuple[NodeResult, bytes]:
        """The reverse of ``encode``."""
        head, tail = unpack(data)
        return cls(**head), tail


class NodeState(NamedTuple):
    """A node of the Ray cluster that is alive."""

    node_id: str
    name: str
    host: str
    total: dict[str, float]


@dataclass(frozen=True, slots=True)
class Setup:
    """What the driver is told that attaches a dispatcher."""

    address: str
    cluster: str
    front: Front
    ship: str | None
    """Folder of this package, to be brought to the nodes; ``None``: they have it."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Setup:
        """The reverse of ``encode``."""
        found: dict[str, Any] = json.loads(data)
        return cls(**{**found, "front": Front(**found["front"])})
