"""The state of one Ray worker process between runs."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Mapping

import ray

from titan_sdk.cluster.engines.process import job_environment
from titan_sdk.cluster.engines.ray.inside.node.front_connection import FrontConnection
from titan_sdk.cluster.engines.ray.inside.node.node_folders import NodeFolders
from titan_sdk.cluster.engines.ray.inside.node.node_worker import find_worker, settings_of
from titan_sdk.cluster.engines.ray.inside.node.relay import Relay
from titan_sdk.cluster.engines.ray.values import Front
from titan_sdk.cluster.worker.client import WorkerClient

__all__ = ["NodeContext", "node_context"]


class NodeContext:
    """One per process and cluster. Belongs to the current loop."""

    def __init__(self, cluster: str, dispatcher: str) -> None:
        node_id: str = ray.get_runtime_context().get_node_id()
        self.name = f"{ray.util.get_node_ip_address()}-{node_id[:6]}"
        """The node's name for the front."""
        self.folders = NodeFolders(cluster, node_id)
        self.front_connection = FrontConnection(dispatcher)
        self._relay = Relay(self.folders.sockets, self.front_connection)
        self._worker: WorkerClient | None = None
        self._settings = ""
        # When its raylet is dead, the node is dead for the cluster, and its jobs run elsewhere. An idle Ray worker would not
        # notice that.
        asyncio.get_event_loop().add_reader(os.pidfd_open(os.getppid()), os._exit, 1)

    async def worker(self, environment: Mapping[str, str]) -> WorkerClient:
        """The node's worker process for jobs with this environment.

        Raises:
            OSError: no process can be started.
        """
        settings = settings_of(environment)
        if self._worker is None or not self._worker.is_alive or settings != self._settings:
            if self._worker is not None:
                await self._worker.close()
            self._worker, self._settings = await find_worker(self.folders, settings, environment), settings
        return self._worker

    async def environment(self, front: Front) -> dict[str, str]:
        """The environment of a job, with Ray's variables for this task, such as its GPUs."""
        found = job_environment(os.environ, self.name, front.host, front.port)
        return {
            **found,
            **front.environment,
            "TITAN_SOCKET": str(await self._relay.path()),
            "TITAN_RUNTIME_ENDS": str(self.folders.ends),
        }


@functools.cache
def node_context(cluster: str, dispatcher: str) -> NodeContext:
    """The context of this process."""
    return NodeContext(cluster, dispatcher)
