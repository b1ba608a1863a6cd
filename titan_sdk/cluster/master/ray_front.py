"""What makes a master the front of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass

from titan_sdk.cluster.backing import Backing
from titan_sdk.cluster.engines.ray.engine import RayEngine
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.engines.ray.values import Front
from titan_sdk.cluster.master.pools import Pools
from titan_sdk.cluster.settings import ClusterSettings

__all__ = ["JobsDoor", "ray_engine"]


@dataclass(frozen=True, slots=True)
class JobsDoor:
    """How jobs on other machines reach a master."""

    host: str
    port: int
    token: str | None
    """Made for this master's life; given to nodes through Ray, and to no job."""
    certificate: str | None
    """PEM text by which its TLS is recognised."""


def ray_engine(
    settings: ClusterSettings,
    ray: RaySettings,
    backing: Backing,
    pools: Pools,
    door: JobsDoor | None,
) -> RayEngine:
    """The engine of a front; nothing of Ray is imported or asked yet."""
    assert door is not None
    front = Front(
        door.host,
        door.port,
        "",
        {"TITAN_RUNTIME_LOG_LIMIT": str(settings.log_limit_bytes), "TITAN_KEEP_ALIVE": "1"},
        settings.log_limit_bytes,
        door.token,
        door.certificate,
    )
    return RayEngine(ray, backing.cluster_id, backing.logs, backing.uploads, front, pools.set_nodes)
