"""The Ray cluster's nodes, as seen from inside it."""

from __future__ import annotations

from typing import Any

import ray

from titan_sdk.cluster.engines.ray.values import NodeState

__all__ = ["node_lives", "read_nodes"]

_HEAD = "node:__internal_head__"


def read_nodes() -> tuple[NodeState, ...]:
    """The nodes that are alive, in the order of their names."""
    free: dict[str, dict[str, float]] = ray._private.state.available_resources_per_node()
    found = [_state(node, free.get(node["NodeID"], {})) for node in ray.nodes() if node["Alive"]]
    return tuple(sorted(found, key=lambda node: node.name))


def node_lives(name: str) -> bool:
    """Whether a node of that name is alive."""
    return any(_name(node) == name for node in ray.nodes() if node["Alive"])


def _state(node: dict[str, Any], free: dict[str, float]) -> NodeState:
    total = _plain(node["Resources"])
    return NodeState(
        node["NodeID"],
        _name(node),
        node["NodeManagerAddress"],
        total,
        {name: round(free.get(name, 0.0), 4) for name in total},
        _HEAD in node["Resources"],
    )


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerAddress']}-{node['NodeID'][:6]}"


def _plain(resources: dict[str, float]) -> dict[str, float]:
    """Without what Ray counts for itself."""
    own = ("node:", "object_store_memory", "accelerator_type:")
    return {name: amount for name, amount in resources.items() if not name.startswith(own)}
