"""What one of Ray's worker processes keeps between runs, and its line to the dispatcher."""

from __future__ import annotations

import functools
import os
import select
import threading
from typing import Any

import ray

from titan_sdk.cluster.engines.process import job_environment
from titan_sdk.cluster.engines.ray.inside.node.guarding import Guard
from titan_sdk.cluster.engines.ray.inside.node.places import NodePlaces
from titan_sdk.cluster.engines.ray.inside.node.relay import Relay
from titan_sdk.cluster.engines.ray.values import Config
from titan_sdk.cluster.engines.staging import StagingFolders

__all__ = ["NAMESPACE", "DispatcherLine", "WorkerSide", "worker_side"]

NAMESPACE = "titan"
_CONFIG_SECONDS = 5.0


class DispatcherLine:
    """Calls to the dispatcher by its name: a service outlives the dispatcher that started it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._handle: Any = None

    def call(self, method: str, *args: object) -> Any:
        """Send a request; the reference to its reply.

        Raises:
            ValueError: there is no dispatcher at the moment.
        """
        if self._handle is None:
            self._handle = ray.get_actor(self._name, namespace=NAMESPACE)
        return getattr(self._handle, method).remote(*args)

    @property
    def is_up(self) -> bool:
        """Whether the last request found it."""
        return self._handle is not None

    def forget(self) -> None:
        """It is gone: look it up again the next time."""
        self._handle = None


class WorkerSide:
    """Made once per worker process, for one cluster."""

    def __init__(self, cluster: str, dispatcher: str) -> None:
        context = ray.get_runtime_context()
        self.node_id: str = context.get_node_id()
        self.cluster = cluster
        self.dispatcher = dispatcher
        self.host: str = ray.util.get_node_ip_address()
        self.places = NodePlaces(cluster, self.node_id)
        self.folders = StagingFolders()
        self.guard = Guard()
        self.line = DispatcherLine(dispatcher)
        self.name = f"{self.host}-{self.node_id[:6]}"
        """As the front calls the node: addresses alone need not be unique."""
        self._relay: Relay | None = None
        self._config: Config | None = None
        self._environment: dict[bytes, bytes] = {}
        self._made_of: tuple[Config | None, dict[bytes, bytes]] = None, {}
        self._lock = threading.Lock()
        self.wake, self._alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._raylet = os.pidfd_open(os.getppid())

    def wait(self, seconds: float, *others: int) -> set[int]:
        """Which of ``wake`` and these become readable; an empty set after so many seconds.

        Ends the process when the raylet is gone, and the guard ends the job: the node is dead to the cluster, which
        runs its jobs elsewhere, and a worker of Ray's that is in nobody's call would not notice.
        """
        poll = select.poll()
        for descriptor in (self.wake, self._raylet, *others):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
        if self._raylet in ready:
            os._exit(1)
        return ready

    def ring(self, _: object) -> None:
        """Make ``wake`` readable; from any thread."""
        try:
            os.write(self._alarm, b".")
        except BlockingIOError:
            pass  # full: it wakes all the same

    def hush(self) -> None:
        """Forget the rings so far."""
        try:
            os.read(self.wake, 65536)
        except BlockingIOError:
            pass  # nobody rang

    def environment(self, config: Config) -> dict[bytes, bytes]:
        """What the jobs of this process inherit; made anew when Ray has changed its own, which it does for a GPU."""
        own: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]  # all else decodes every value
        if self._made_of != (config, own):
            found = job_environment(os.environ, self.name, config.host, config.port)
            found |= config.environment
            found["TITAN_SOCKET"] = str(self._relay_to(config).path)
            self._environment = {os.fsencode(name): os.fsencode(value) for name, value in found.items()}
            self._made_of = config, own.copy()
        return self._environment

    def _relay_to(self, config: Config) -> Relay:
        self._config = config
        if self._relay is None:
            self._relay = Relay(self.places.sockets, self.current_config)
        return self._relay

    def current_config(self, *, renew: bool = False) -> Config:
        """Where the front is; ``renew``: it was not found there."""
        with self._lock:
            if renew or self._config is None:
                try:
                    self._config = ray.get(self.line.call("config"), timeout=_CONFIG_SECONDS)
                except (ray.exceptions.RayError, ValueError):
                    self.line.forget()
            if self._config is None:
                raise OSError("the dispatcher does not tell where the front is")
            return self._config


@functools.cache
def worker_side(cluster: str, dispatcher: str) -> WorkerSide:
    """This process's own."""
    return WorkerSide(cluster, dispatcher)
