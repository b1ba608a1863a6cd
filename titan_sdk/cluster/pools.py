"""What the scheduler is told of a cluster whose engine chooses the places: one pool of slots per tag.

Jobs wait here by priority, not in the engine's own queue: a pool has as many slots as the nodes can hold, and a
few more, so that no place is empty between two jobs, and for an autoscaler to see what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from titan_sdk.cluster.engines.ray.outlook import who_brings
from titan_sdk.cluster.engines.ray.prefetch import Prefetch
from titan_sdk.cluster.engines.ray.resources import capacity, missing, resources_of, served_tags
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.engines.ray.values import ClusterState, Growth, NodeState
from titan_sdk.cluster.scheduler import Effect, Scheduler

__all__ = ["Pools"]


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
        self._prefetch = Prefetch(settings.prefetch)
        self._services = services
        self._scheduler = scheduler
        self._perform = perform
        self.nodes: tuple[NodeState, ...] = ()
        self.growth = Growth()
        self.reachable = False

    def cover(self, tags: Iterable[str]) -> None:
        """There are jobs with these tags: have a pool for each, be it without a slot."""
        for tag in tags:
            if self._scheduler.workers.get(tag) is None:
                self._perform(self._scheduler.add_worker(tag, [tag], self._slots(tag), pool=True))

    def set_state(self, state: ClusterState, *, reachable: bool) -> None:
        """The cluster is like this now."""
        self.nodes, self.growth, self.reachable = state.nodes, state.growth, reachable
        self.cover(served_tags(state.nodes, self._settings.tag_resources))
        for worker in list(self._scheduler.workers):
            self._perform(self._scheduler.resize_worker(worker.name, self._slots(worker.name)))

    def ended(self, tag: str) -> None:
        """A job or service with this tag has."""
        if self._prefetch.ended(tag, time.monotonic()):
            self._perform(self._scheduler.resize_worker(tag, self._slots(tag)))

    def ends_together(self) -> int:
        """How many ends may wait to be told together: until half of what is ready for the next free places is used."""
        return self._prefetch.total(time.monotonic()) // 2

    def _slots(self, tag: str) -> int:
        if not self.reachable:
            return 0
        wanted = resources_of(tag, self._settings.tag_resources)
        places = max(capacity(wanted, self.nodes) - self._services().get(tag, 0), 0)
        ready = self._prefetch.wanted(tag, time.monotonic()) if places else 0
        return places + max(self._settings.ahead, ready)

    def has_place_for(self, tag: str) -> bool:
        """Whether some node has what a job with this tag takes, be it taken or free."""
        return not missing(resources_of(tag, self._settings.tag_resources), self.nodes)

    def why_waiting(self, tag: str) -> str:
        """Why a job with this tag does not run, in terms of resources."""
        wanted = resources_of(tag, self._settings.tag_resources)
        lacking = missing(wanted, self.nodes)
        if not lacking:
            taken = ", ".join(f"{name}: {amount:g}" for name, amount in wanted.as_ray().items())
            return f"waits for {taken or 'a place'}; every place for the tag {tag!r} on {len(self.nodes)} nodes is taken"
        return f"needs {', '.join(lacking)}, and no node of the Ray cluster has that; {who_brings(wanted, self.growth, self._settings.ahead)}"
