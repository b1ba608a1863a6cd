"""The Ray cluster's nodes, as seen from inside it."""

from __future__ import annotations

from typing import Any

import ray

from titan_sdk.cluster.engines.ray.values import NodeState

__all__ = ["read_nodes"]


def read_nodes() -> tuple[NodeState, ...]:
    """The live nodes, ordered by name."""
    found = [_state(node) for node in ray.nodes() if node["Alive"]]
    return tuple(sorted(found, key=lambda node: node.name))


def _state(node: dict[str, Any]) -> NodeState:
    host, node_id = node["NodeManagerAddress"], node["NodeID"]
    # Addresses alone may not be unique.
    return NodeState(node_id, f"{host}-{node_id[:6]}", host, _plain(node["Resources"]))


def _plain(resources: dict[str, float]) -> dict[str, float]:
    """The resources without Ray's internal ones."""
    own = ("node:", "object_store_memory", "accelerator_type:")
    return {name: amount for name, amount in resources.items() if not name.startswith(own)}
