"""The Ray resources of a job's requirement, and the number of such jobs that a cluster can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from titan_sdk.cluster.engines.ray.values import NodeState, Resources
from titan_sdk.errors import InvalidArgument

__all__ = ["capacity", "missing", "parse_resources", "resources_of", "served_tags"]

_WORDS = {"num_cpus": "CPU", "num_gpus": "GPU"}
_EXACT = 1e-6


def resources_of(tag: str, given: Mapping[str, Resources]) -> Resources:
    """The resources of a job or service with this requirement. Unless ``given`` has the tag: a CPU for ``GENERAL``, a GPU
    for ``GPU``, and for any other tag one of the custom resource of that name.
    """
    found = given.get(tag)
    if found is not None:
        return found
    if tag == "GENERAL":
        return Resources(cpus=1.0)
    return Resources(gpus=1.0) if tag == "GPU" else Resources(custom=((tag, 1.0),))


def parse_resources(texts: Iterable[str]) -> dict[str, Resources]:
    """The resources by tag in ``--tag-resources GPU=num_gpus:0.5,num_cpus:1``. Other names are custom resources.

    Raises:
        InvalidArgument: a text is not of that form.
    """
    found: dict[str, Resources] = {}
    for text in texts:
        tag, _, rest = text.partition("=")
        amounts: dict[str, float] = {}
        for part in rest.split(","):
            name, _, amount = (piece.strip() for piece in part.partition(":"))
            amounts[name] = _amount(text, name, amount)
        if not tag.strip() or tag.strip() in found:
            raise InvalidArgument(f"--tag-resources {text!r}: name each tag once, such as GPU=num_gpus:0.5")
        cpus, gpus = amounts.pop("num_cpus", 0.0), amounts.pop("num_gpus", 0.0)
        found[tag.strip()] = Resources(cpus, gpus, tuple(sorted(amounts.items())))
    return found


def _amount(text: str, name: str, amount: str) -> float:
    try:
        number = float(amount)
    except ValueError:
        number = -1.0
    if not name or not 0 <= number < float("inf"):
        raise InvalidArgument(
            f"--tag-resources {text!r}: {name!r} needs an amount of 0 or more, such as GPU=num_gpus:0.5,num_cpus:1"
        )
    if number > 1 and number != int(number):
        raise InvalidArgument(
            f"--tag-resources {text!r}: Ray takes fractions below 1 only; give {int(number)}"
        )
    return number


def capacity(resources: Resources, nodes: Iterable[NodeState]) -> int:
    """The number of such jobs that the empty nodes hold at once."""
    wanted = resources.as_ray()
    return sum(_holds(wanted, node) for node in nodes)


def _holds(wanted: Mapping[str, float], node: NodeState) -> int:
    if not wanted:
        # The job needs no resources: one per CPU, so that the node is not overloaded.
        return int(node.total.get("CPU", 0))
    return min(int(node.total.get(name, 0.0) / amount + _EXACT) for name, amount in wanted.items())


def missing(resources: Resources, nodes: Iterable[NodeState]) -> list[str]:
    """The resources of which no node has enough for one such job."""
    states = list(nodes)
    return [
        name if amount == 1 else f"{name}: {amount:g}"
        for name, amount in resources.as_ray().items()
        if not any(node.total.get(name, 0.0) + _EXACT >= amount for node in states)
    ]


def served_tags(nodes: Iterable[NodeState], given: Mapping[str, Resources]) -> dict[str, int]:
    """The tags that a node can serve, each with the number of its jobs at once."""
    states = list(nodes)
    tags = {"GENERAL", "GPU", *given}
    own = {"CPU", "GPU", "memory"}
    tags |= {name for node in states for name in node.total if name not in own}
    counts = {tag: capacity(resources_of(tag, given), states) for tag in sorted(tags)}
    return {tag: count for tag, count in counts.items() if count > 0}
