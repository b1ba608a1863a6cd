"""A master as the front of a Ray cluster: its engine, and one pool of slots per tag.

Jobs wait here, by priority, and not in Ray's queue. A pool has as many slots as the nodes can hold, and a few more: so no
place is idle between two jobs, and an autoscaler sees the demand.
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
    """The access to a master for jobs on other machines."""

    host: str
    port: int
    token: str | None
    """A token of this master's lifetime. Nodes get it through Ray; no job gets it."""
    certificate: str | None
    """The PEM text of the master's certificate."""


def ray_engine(
    settings: ClusterSettings,
    ray: RaySettings,
    storage: Storage,
    pools: Pools,
    door: JobsDoor | None,
) -> RayEngine:
    """The engine of a front. It does not import or contact Ray yet."""
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
    """Keeps the scheduler's pools in step with the nodes.

    Args:
        perform: carries out the scheduler's effects.
        services: the number of live services by tag. On a node a service takes what a job takes.
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
        """Make a pool for each of these tags, if need be without slots."""
        for tag in tags:
            if self._scheduler.workers.get(tag) is None:
                self._perform(self._scheduler.add_worker(tag, [tag], self._slots(tag), pool=True))

    def set_nodes(self, nodes: tuple[NodeState, ...], *, reachable: bool) -> None:
        """Update the pools for these nodes."""
        self.nodes, self.reachable = nodes, reachable
        self.cover(served_tags(nodes, self._settings.tag_resources))
        for worker in list(self._scheduler.workers):
            self.resize(worker.name)

    def resize(self, tag: str) -> None:
        """Update the slots of a tag's pool, after a change of places or services."""
        self._perform(self._scheduler.resize_worker(tag, self._slots(tag)))

    def _slots(self, tag: str) -> int:
        if not self.reachable:
            return 0
        wanted = resources_of(tag, self._settings.tag_resources)
        places = max(capacity(wanted, self.nodes) - self._services().get(tag, 0), 0)
        return places + max(self._settings.ahead, self._settings.prefetch if places else 0)

    def has_place_for(self, tag: str) -> bool:
        """Whether a node has the resources of a job with this tag, free or in use."""
        return not missing(resources_of(tag, self._settings.tag_resources), self.nodes)

    def why_waiting(self, tag: str) -> str:
        """The reason why a job with this tag waits, in terms of resources."""
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
