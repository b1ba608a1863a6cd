"""What makes a master the front of a Ray cluster: its engine, and one pool of slots per tag.

Jobs wait here by priority, not in the engine's own queue: a pool has as many slots as the nodes can hold, and a
few more, so that no place is empty between two jobs, and for an autoscaler to see what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from titan_sdk.cluster.engines.ray.engine import RayEngine
from titan_sdk.cluster.engines.ray.resources import capacity, missing, resources_of, served_tags
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.engines.ray.values import Front, NodeState
from titan_sdk.cluster.master.scheduler import Effect, Scheduler
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.storage import Storage

__all__ = ["JobsDoor", "Pools", "ray_engine"]


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
    storage: Storage,
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
    return RayEngine(ray, storage.cluster_id, storage.logs, storage.uploads, front, pools.set_nodes)


class Pools:
    """Keeps the scheduler's workers as the nodes are.

    Args:
        perform: carries out what the scheduler decides.
        services: how many live services there are, by tag: on a node, they take what a job takes.
    """

    def __init__(
        self,
        settings: RaySettings,
        scheduler: Scheduler,
        perform: Callable[[Sequence[Effect]], None],
        services: Callable[[], Mapping[str, int]],
    ) -> None:
        self._settings = settings
        self._services = services
        self._scheduler = scheduler
        self._perform = perform
        self.nodes: tuple[NodeState, ...] = ()
        self.reachable = False

    def cover(self, tags: Iterable[str]) -> None:
        """There are jobs with these tags: have a pool for each, be it without a slot."""
        for tag in tags:
            if self._scheduler.workers.get(tag) is None:
                self._perform(self._scheduler.add_worker(tag, [tag], self._slots(tag), pool=True))

    def set_nodes(self, nodes: tuple[NodeState, ...], *, reachable: bool) -> None:
        """The cluster is like this now."""
        self.nodes, self.reachable = nodes, reachable
        self.cover(served_tags(nodes, self._settings.tag_resources))
        for worker in list(self._scheduler.workers):
            self.resize(worker.name)

    def resize(self, tag: str) -> None:
        """There are more or fewer places for jobs with this tag, or services that take them."""
        self._perform(self._scheduler.resize_worker(tag, self._slots(tag)))

    def _slots(self, tag: str) -> int:
        if not self.reachable:
            return 0
        wanted = resources_of(tag, self._settings.tag_resources)
        places = max(capacity(wanted, self.nodes) - self._services().get(tag, 0), 0)
        return places + max(self._settings.ahead, self._settings.prefetch if places else 0)

    def has_place_for(self, tag: str) -> bool:
        """Whether some node has what a job with this tag takes, be it taken or free."""
        return not missing(resources_of(tag, self._settings.tag_resources), self.nodes)

    def why_waiting(self, tag: str) -> str:
        """Why a job with this tag does not run, in terms of resources."""
        wanted, ahead = resources_of(tag, self._settings.tag_resources), self._settings.ahead
        absent = missing(wanted, self.nodes)
        if not absent:
            taken = ", ".join(f"{name}: {amount:g}" for name, amount in wanted.as_ray().items())
            return f"waits for {taken or 'a place'}; every place for the tag {tag!r} on {len(self.nodes)} nodes is taken"
        help_ = "an autoscaler cannot bring it as it is shown nothing: start a node that has it, or titan up with --ray-ahead"
        if ahead:
            help_ = (
                f"up to {ahead} such jobs are shown to the cluster's autoscaler, which starts a node if one of its node "
                "types has it"
            )
        return f"needs {', '.join(absent)}, and no node of the Ray cluster has that; {help_}"
