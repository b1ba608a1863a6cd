"""The settings of a master's Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from titan_sdk.cluster.engines.ray.values import Resources
from titan_sdk.cluster.settings_fields import check_bounds, setting
from titan_sdk.config import parse_address
from titan_sdk.errors import InvalidArgument

__all__ = ["RaySettings", "parse_advertised"]


@dataclass(frozen=True, slots=True)
class RaySettings:
    """Each is an option of `titan up` in the section Ray, but for the last two."""

    address: str = setting(
        "auto",
        "The Ray cluster: auto on one of its nodes, HOST:6379, or ray://HOST:10001 from elsewhere.",
        "--ray-address",
        section="Ray",
    )
    tag_resources: Mapping[str, Resources] = setting(
        dict,
        "Resources of a Ray node that a job of a tag takes, such as GPU=num_gpus:0.5,num_cpus:1. Default: "
        "one CPU, one GPU, or one of the resource with the tag's name.",
        "--tag-resources",
        section="Ray",
    )
    ahead: int = setting(
        0,
        "Jobs per tag that are given to Ray beyond its capacity, so that its autoscaler sees them.",
        "--ray-ahead",
        section="Ray",
        least=0,
    )
    prefetch: int = setting(
        2,
        "Jobs per tag that wait in Ray for the next free place. Jobs of higher priority do not overtake "
        "them; 0: none, so the master decides every time.",
        "--ray-prefetch",
        section="Ray",
        least=0,
    )
    ship_code: bool = setting(
        False,
        "Bring this package to the nodes, so that they need only Ray.",
        "--ray-ship-code",
        section="Ray",
    )
    advertise: tuple[str, int] | None = setting(
        None,
        "HOST[:PORT] at which the cluster reaches this master. Default: the address on which it listens.",
        "--advertise-address",
        section="Ray",
    )
    connect_seconds: float = setting(
        60.0, "How long the cluster may take to answer when the master starts.", above=0
    )
    keep_jobs: bool = setting(
        True,
        "Jobs and services continue when the master is stopped, and the next master takes them over. "
        "Otherwise they end with it.",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "tag_resources", MappingProxyType(dict(self.tag_resources)))
        _check_cluster(self.address)
        check_bounds(self)


def parse_advertised(text: str) -> tuple[str, int]:
    """Host and port of ``HOST[:PORT]``; port 0 means the master's own port.

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
