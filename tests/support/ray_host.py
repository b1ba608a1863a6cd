"""Hosts a Ray cluster of several raylets on loopback, told what to do by lines of JSON; see `ray_nodes.py`.

A process of its own: Ray's clients leave threads and sockets behind, and the tests count those as errors.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

# Ray takes 127.0.0.1 for this machine's outer address, and binds to all of them, unless it is told so.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.cluster_utils import Cluster

_STORE_BYTES = 80_000_000
_SYSTEM = {
    # A dead raylet is noticed within two seconds instead of twenty.
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1500,
    "health_check_failure_threshold": 3,
    "prestart_worker_first_driver": False,
}


class Host:
    """One cluster."""

    def __init__(self) -> None:
        self._cluster: Any = None
        self._nodes: dict[str, Any] = {}

    def add(self, name: str, python: str = sys.executable, **resources: Any) -> str:
        node = {"node_ip_address": "127.0.0.1", "object_store_memory": _STORE_BYTES, **resources}
        sys.executable = python  # what Ray starts the node's processes with
        if self._cluster is None:
            head = {**node, "include_dashboard": False, "_system_config": _SYSTEM}
            self._cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
            self._nodes[name] = self._cluster.head_node
        else:
            self._nodes[name] = _patiently(lambda: self._cluster.add_node(**node))
        return str(self._cluster.address)

    def kill(self, name: str) -> None:
        """The raylet is gone from one moment to the next."""
        raylet = self._raylet(name)
        raylet.kill()
        # As long as it is a zombie, its workers take it for alive and go on.
        raylet.wait()

    def pid(self, name: str) -> int:
        return int(self._raylet(name).pid)

    def _raylet(self, name: str) -> Any:
        return self._nodes[name].all_processes["raylet"][0].process

    def node_id(self, name: str) -> str:
        return str(self._nodes[name].node_id)

    def kill_head(self) -> None:
        """As the end of the head's machine, for the processes that run there."""
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)

    def kill_actor(self, name: str) -> None:
        """SIGKILL to the process of a named actor."""
        ray.init(self._cluster.address, namespace="titan", log_to_driver=False, logging_level="error")
        try:
            ray.kill(ray.get_actor(name), no_restart=True)
        finally:
            ray.shutdown()

    def end(self) -> None:
        if self._cluster is not None:
            self._cluster.shutdown()


def _patiently(start: Callable[[], Any]) -> Any:
    """Ray gives a node half a minute to start, which a busy machine may not have."""
    for _ in range(3):
        try:
            return start()
        except Exception as exc:
            if "timed out during startup" not in str(exc):
                raise
            failure = exc
    raise failure


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    host = Host()
    for line in sys.stdin:
        command, *args = json.loads(line)
        keywords = args.pop() if args and isinstance(args[-1], dict) else {}
        try:
            reply = ["ok", getattr(host, command)(*args, **keywords)]
        except Exception as exc:  # noqa: BLE001 - told to the test
            reply = ["error", f"{type(exc).__name__}: {exc}"]
        print(json.dumps(reply), file=out, flush=True)
    host.end()


if __name__ == "__main__":
    main()
