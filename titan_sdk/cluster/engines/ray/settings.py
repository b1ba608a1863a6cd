"""How a master uses a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from titan_sdk.cluster.engines.ray.values import Resources
from titan_sdk.config import parse_address
from titan_sdk.errors import InvalidArgument

__all__ = ["RaySettings", "parse_advertised"]


@dataclass(frozen=True, slots=True)
class RaySettings:
    """See the module."""

    address: str = "auto"
    """``auto``: the cluster that this machine is a node of; else ``HOST:PORT`` of its head, or ``ray://HOST:10001``."""
    tag_resources: Mapping[str, Resources] = field(default_factory=dict)
    """What a job of a tag takes, where that is not one CPU, one GPU or one of the resource named by the tag."""
    ahead: int = 0
    """Jobs per tag that are handed to Ray beyond what it can hold, for its autoscaler to see."""
    prefetch: int = 2
    """Jobs per tag that Ray has ready for the next free place, so that none is empty until the master has heard of an
    end and stored it. They are not overtaken by jobs of higher priority; 0 lets the master decide every time. A tag for
    which no node has a place gets none, and those of ``ahead`` count."""
    advertise: tuple[str, int] | None = None
    """Where the cluster reaches this master; ``None``: where it listens, if that is this machine alone, too."""
    ship_code: bool = False
    """Bring this package to the nodes, which then need nothing but Ray."""
    connect_seconds: float = 60.0
    """How long the cluster may take to answer when the master starts."""
    keep_jobs: bool = True
    """Jobs and services go on when the master is stopped, for the next one; else they end with it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tag_resources", MappingProxyType(dict(self.tag_resources)))
        _check_cluster(self.address)
        for name in ("ahead", "prefetch"):
            if getattr(self, name) < 0:
                raise InvalidArgument(f"{name}={getattr(self, name)}: the number of jobs cannot be negative")
        if not self.connect_seconds > 0:
            raise InvalidArgument(f"connect_seconds={self.connect_seconds}: it must be above 0")


def parse_advertised(text: str) -> tuple[str, int]:
    """Host and port of ``HOST[:PORT]``; port 0 for the one that is listened on.

    Raises:
        InvalidArgument: it is not of that form.
    """
    return parse_address(text, "--advertise-address", port=0)


def _check_cluster(address: str) -> None:
    if address == "auto":
        return
    if not address.strip():
        raise InvalidArgument("the Ray address is empty; give auto, HOST:PORT or ray://HOST:10001")
    try:
        parse_address(address.removeprefix("ray://"))
    except InvalidArgument as exc:
        raise InvalidArgument(
            f"the Ray address {address!r} is not one; give auto, HOST:PORT or ray://HOST:10001 ({exc})"
        ) from exc
