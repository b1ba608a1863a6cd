"""The values in messages between front, dispatcher and nodes."""

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
"""The version of the messages between front and dispatcher, increased with every change."""
NAMESPACE = "titan"
"""The Ray namespace of the actors' names."""
NOT_KNOWN = "ERROR: no run of that name is waited for"
"""The front's reply to output of an unknown run."""
KEPT_ARCHIVES = 64
"""The most archives that a dispatcher keeps in Ray's object store."""


class WrongProtocol(Exception):
    """Front and dispatcher have incompatible versions; one sentence."""


class FrontUnreachable(Exception):
    """The cluster cannot reach the front at its address; one sentence."""


class Resources(NamedTuple):
    """The Ray resources of one job."""

    cpus: float = 0.0
    gpus: float = 0.0
    custom: tuple[tuple[str, float], ...] = ()

    def as_ray(self) -> dict[str, float]:
        """As `ray.nodes()` names them."""
        found = {"CPU": self.cpus, "GPU": self.gpus, **dict(self.custom)}
        return {name: amount for name, amount in found.items() if amount > 0}


class Order(NamedTuple):
    """The order to run one job on a node."""

    run: str
    job_id: str
    line: str
    """As ``admission.dump_line`` writes it."""
    archive: tuple[str, str] | None = None
    """The name and content hash of its archive."""

    def encode(self) -> bytes:
        return json.dumps(self).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Order:
        """The reverse of ``encode``."""
        return cls(*json.loads(data))


@dataclass(frozen=True, slots=True)
class Front:
    """The address and credentials of a front, and the environment of its jobs."""

    host: str
    port: int
    key: str = field(repr=False)
    """The key by which the front recognizes its dispatcher."""
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
    """The end of a run, from its node or the dispatcher."""

    code: int | None = None
    """The exit code as a shell reports it; ``None`` if it is unknown."""
    node: str | None = None
    """The node where it began."""
    killed: bool = False
    refused: str | None = None
    """The reason why it can never run."""
    lost: str | None = None
    """The reason why its outcome is unknown."""
    offset: int = 0
    """The offset of the last piece of output, which travels with this value."""

    record: str = ""
    """The launcher's final record; see ``FinalRecords``."""

    def encode(self, tail: bytes = b"") -> bytes:
        return pack(asdict(self), tail)

    @classmethod
    def decode(cls, data: bytes) -> tuple[NodeResult, bytes]:
        """The reverse of ``encode``."""
        head, tail = unpack(data)
        return cls(**head), tail


class NodeState(NamedTuple):
    """A live node of the Ray cluster."""

    node_id: str
    name: str
    host: str
    total: dict[str, float]


@dataclass(frozen=True, slots=True)
class Setup:
    """The input of the driver that attaches a dispatcher."""

    address: str
    cluster: str
    front: Front
    ship: str | None
    """The folder of this package, to ship to the nodes; ``None``: the nodes have it."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Setup:
        """The reverse of ``encode``."""
        found: dict[str, Any] = json.loads(data)
        return cls(**{**found, "front": Front(**found["front"])})
