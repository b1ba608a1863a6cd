"""What the cluster's autoscaler says of itself: its node types, what it is starting, what it cannot bring.

A cluster may tell its node types itself; else they are in the file that the autoscaler was given on the head node,
where the dispatcher is. Autoscaler v2 reports what it makes of the demand that it has seen; v1 tells nothing of that.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.core.generated import autoscaler_pb2

from titan_sdk.cluster.engines.ray.values import Growth, NodeType

__all__ = ["GrowthWatch"]

_AGAIN_SECONDS = 10.0
_REPLY_SECONDS = 5
_OPTION = "--autoscaling-config="


class GrowthWatch:
    """Asks Ray; node types are looked for every few seconds only."""

    def __init__(self) -> None:
        self._types: tuple[NodeType, ...] | None = None
        self._next = 0.0

    def read(self) -> Growth:
        """As it is now; whatever Ray does not tell, or not in this version, is left out."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _AGAIN_SECONDS
            self._types = _told_types() or _written_types(ray.get_runtime_context().gcs_address)
        state = _state()
        if state is None:
            return Growth(self._types)
        pending = [*state.pending_instance_requests, *state.pending_instances]
        infeasible = {
            tuple(sorted(request.resources_bundle.items())) for request in state.infeasible_resource_requests
        }
        starting = {entry.ray_node_type_name for entry in pending}
        return Growth(self._types, tuple(sorted(starting)), tuple(sorted(infeasible)))


def _state() -> Any:
    try:
        reply = autoscaler_pb2.GetClusterStatusReply()
        client = ray._private.worker.global_worker.gcs_client
        reply.ParseFromString(client.get_cluster_status(timeout_s=_REPLY_SECONDS))
    except Exception:  # noqa: BLE001 - Ray's own interface, and only a hint for people
        return None
    return reply.autoscaling_state


def _told_types() -> tuple[NodeType, ...] | None:
    try:
        config = ray._private.state.state.get_cluster_config()
    except Exception:  # noqa: BLE001 - as above
        return None
    if config is None or not config.node_group_configs:
        return None
    return tuple(
        NodeType(group.name, {name: float(amount) for name, amount in group.resources.items()})
        for group in config.node_group_configs
    )


def _written_types(gcs: str) -> tuple[NodeType, ...] | None:
    """From the file of the autoscaler of this cluster, if that runs beside this process."""
    for command in _commands():
        if f"--gcs-address={gcs}" in command:
            for path in (word.removeprefix(_OPTION) for word in command if word.startswith(_OPTION)):
                with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                    return _types_in(Path(path).expanduser().read_text("utf-8"))
    return None


def _commands() -> Iterator[list[str]]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")


def _types_in(text: str) -> tuple[NodeType, ...]:
    try:
        config = json.loads(text)
    except ValueError:
        import yaml

        config = yaml.safe_load(text)
    head = config.get("head_node_type")
    types: Mapping[str, Any] = config["available_node_types"]
    return tuple(
        NodeType(name, {word: float(amount) for word, amount in (node.get("resources") or {}).items()})
        for name, node in types.items()
        if name != head and node.get("max_workers", 1) != 0
    )
