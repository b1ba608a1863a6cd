"""Whether an autoscaler could bring what no node of the cluster has."""

from __future__ import annotations

from titan_sdk.cluster.engines.ray.values import Growth, NodeType, Resources

__all__ = ["who_brings"]


def who_brings(wanted: Resources, growth: Growth, ahead: int) -> str:
    """The end of the sentence that says why a job waits.

    Args:
        ahead: how many such jobs are shown to the autoscaler.
    """
    if growth.types is not None:
        fitting = [kind.name for kind in growth.types if _fits(wanted, kind)]
        if not fitting:
            names = ", ".join(kind.name for kind in growth.types) or "there are none"
            return f"none of the node types of its autoscaler ({names}) has it: add one, or start a node that has it"
        return _by_type(fitting, growth, ahead)
    if tuple(sorted(wanted.as_ray().items())) in growth.infeasible:
        return "its autoscaler says that none of its node types has it: add one, or start a node that has it"
    if growth.starting:
        return f"its autoscaler is starting nodes of the type {', '.join(growth.starting)}"
    if ahead:
        return (
            f"up to {ahead} such jobs are shown to the cluster's autoscaler, which starts a node if one of its node "
            "types has it"
        )
    return "an autoscaler cannot bring it as it is shown nothing: start a node that has it, or titan up with --ray-ahead"


def _by_type(fitting: list[str], growth: Growth, ahead: int) -> str:
    names = " or ".join(fitting)
    coming = [name for name in fitting if name in growth.starting]
    if coming:
        return f"its autoscaler is starting a node of the type {' and '.join(coming)}, which has it"
    if ahead:
        return f"its autoscaler can start a node of the type {names}, and is shown up to {ahead} such jobs"
    return f"its autoscaler could start a node of the type {names}, but is shown nothing: titan up with --ray-ahead"


def _fits(wanted: Resources, kind: NodeType) -> bool:
    return all(kind.resources.get(name, 0.0) >= amount for name, amount in wanted.as_ray().items())
