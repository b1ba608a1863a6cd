"""What a run asks of Ray, in Ray's words."""

from __future__ import annotations

from typing import Any

from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from titan_sdk.cluster.engines.ray.values import Resources

__all__ = ["task_options"]


def task_options(resources: Resources, near: str | None) -> dict[str, Any]:
    """Options of the run's task or actor; ``near``: the id of the node where it should run if there is room."""
    options: dict[str, Any] = {"num_cpus": resources.cpus}
    if resources.gpus:
        options["num_gpus"] = resources.gpus
    if resources.custom:
        options["resources"] = dict(resources.custom)
    if near is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(
            near, soft=True, _spill_on_unavailable=True
        )
    return options
