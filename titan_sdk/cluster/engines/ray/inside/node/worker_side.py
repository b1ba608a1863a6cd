"""What one of Ray's worker processes keeps between runs."""

from __future__ import annotations

import functools
import os
import select

import ray

from titan_sdk.cluster.engines.process import job_environment
from titan_sdk.cluster.engines.ray.inside.node.front_line import FrontLine
from titan_sdk.cluster.engines.ray.inside.node.node_worker import NodeWorker
from titan_sdk.cluster.engines.ray.inside.node.places import NodePlaces
from titan_sdk.cluster.engines.ray.inside.node.relay import Relay
from titan_sdk.cluster.engines.ray.values import Front

__all__ = ["WorkerSide", "worker_side"]


class WorkerSide:
    """Made once per worker process, for one cluster."""

    def __init__(self, cluster: str, dispatcher: str) -> None:
        node_id: str = ray.get_runtime_context().get_node_id()
        self.name = f"{ray.util.get_node_ip_address()}-{node_id[:6]}"
        """As the front calls the node."""
        self.places = NodePlaces(cluster, node_id)
        self.worker = NodeWorker(self.places)
        self.line = FrontLine(dispatcher)
        self._relay = Relay(self.places.sockets, self.line)
        self._raylet = os.pidfd_open(os.getppid())

    def wait(self, *descriptors: int) -> set[int]:
        """Which of these become readable.

        Ends the process when the raylet is gone, and so the job: the node is dead to the cluster, which runs its jobs
        elsewhere, and a worker of Ray's that is in nobody's call would not notice.
        """
        poll = select.poll()
        for descriptor in (self._raylet, *descriptors):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        if self._raylet in ready:
            os._exit(1)
        return ready

    def environment(self, front: Front) -> dict[str, str]:
        """What a job inherits: also what Ray has set for this task, such as its GPUs."""
        found = job_environment(os.environ, self.name, front.host, front.port)
        return {**found, **front.environment, "TITAN_SOCKET": str(self._relay.path)}


@functools.cache
def worker_side(cluster: str, dispatcher: str) -> WorkerSide:
    """This process's own."""
    return WorkerSide(cluster, dispatcher)
