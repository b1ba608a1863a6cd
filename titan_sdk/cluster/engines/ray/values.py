"""What travels between the front, the dispatcher and the nodes: plain values, pickled.

What there is of every job is tuples: dataclasses take several times as long at every hop.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from titan_sdk.wire.jobs import JobLine

__all__ = [
    "KEPT_ARCHIVES",
    "PROTOCOL",
    "Began",
    "ClusterState",
    "Config",
    "Finished",
    "Growth",
    "News",
    "NodeState",
    "NodeType",
    "Orders",
    "Resources",
    "Setup",
    "Spec",
    "Superseded",
    "WrongProtocol",
    "pack",
    "unpack",
]

PROTOCOL = 4
"""Raised with every change of what a front and a dispatcher tell each other."""
KEPT_ARCHIVES = 64
"""Archives that a dispatcher keeps in Ray's object store."""


class Superseded(Exception):
    """Another front has taken over; the one that hears this must stop."""


class WrongProtocol(Exception):
    """Front and dispatcher are of versions that do not understand each other; one sentence."""


class Resources(NamedTuple):
    """What one job asks of a node, in Ray's words."""

    cpus: float = 0.0
    gpus: float = 0.0
    custom: tuple[tuple[str, float], ...] = ()

    def as_ray(self) -> dict[str, float]:
        """As `ray.nodes()` names them."""
        found = {"CPU": self.cpus, "GPU": self.gpus, **dict(self.custom)}
        return {name: amount for name, amount in found.items() if amount > 0}


class Spec(NamedTuple):
    """One run, as a node needs it."""

    run: str
    line: JobLine
    resources: Resources
    service: bool = False
    near: str | None = None
    """Id of the node where it should run if there is room."""
    archive: tuple[str, str] | None = None
    """Name and content hash of the uploaded file that it needs; the dispatcher holds the bytes by hash."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a front wants of the dispatcher, done in the order of the fields."""

    starts: tuple[Spec, ...] = ()
    archives: Mapping[str, bytes] = field(default_factory=dict)
    """Contents of archives, by hash; one that came lately (``KEPT_ARCHIVES``) need not come again."""
    kills: tuple[str, ...] = ()
    received: Mapping[str, int] = field(default_factory=dict)
    """How much of the runs' output is stored."""
    done: tuple[str, ...] = ()
    """Runs whose ends are stored."""
    ends: int = 0
    """How many ends may wait to be told together."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a front tells the dispatcher: how jobs reach it, and what they inherit."""

    host: str
    port: int
    environment: dict[str, str]
    log_limit: int
    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    """PEM text that the front's certificate is checked against; ``None``: no TLS."""


class Began(NamedTuple):
    """The run's process exists."""

    node: str
    """Name of the node."""
    host: str


class Finished(NamedTuple):
    """How a run ended, as its node or the dispatcher saw it."""

    code: int | None = None
    """As a shell reports it; ``None`` where nobody knows."""
    began: Began | None = None
    killed: bool = False
    refused: str | None = None
    """Why it can never run."""
    lost: str | None = None
    """Why its outcome is not known: its node or its worker process is gone."""
    offset: int = 0
    tail: bytes = b""
    """The last output, from that offset on."""


class News(NamedTuple):
    """What the dispatcher tells of one run."""

    run: str
    began: Began | None = None
    answers: bool = False
    """A service's port was seen to answer."""
    chunks: tuple[tuple[int, bytes], ...] = ()
    finished: Finished | None = None


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node of the Ray cluster that is alive."""

    node_id: str
    name: str
    host: str
    total: dict[str, float]
    free: dict[str, float]
    head: bool = False


@dataclass(frozen=True, slots=True)
class NodeType:
    """A kind of node that the cluster's autoscaler can start."""

    name: str
    resources: dict[str, float]


@dataclass(frozen=True, slots=True)
class Growth:
    """What is known of the cluster's autoscaler."""

    types: tuple[NodeType, ...] | None = None
    """``None``: it does not tell."""
    starting: tuple[str, ...] = ()
    """Types of the nodes that it has asked for and that are not there yet."""
    infeasible: tuple[tuple[tuple[str, float], ...], ...] = ()
    """Resources of tasks that it was shown, and that none of its types can run."""


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The nodes that are alive, and what could come."""

    nodes: tuple[NodeState, ...] = ()
    growth: Growth = Growth()


@dataclass(frozen=True, slots=True)
class Setup:
    """The first thing that a bridge hears."""

    address: str
    cluster: str
    front: str
    config: Config
    ship: str | None
    """Folder of this package, to be brought to the nodes; ``None``: they have it."""


def pack(value: object) -> bytes:
    """For Ray to carry: bytes it takes as they are, while objects go through a pickler of its own, written in Python."""
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def unpack(data: bytes) -> Any:
    """What was packed, by another process of the same cluster."""
    return pickle.loads(data)
