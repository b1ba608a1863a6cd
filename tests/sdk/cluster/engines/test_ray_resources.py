"""What a requirement takes of a Ray cluster, and what the scheduler is told of it: pure values, no Ray."""

from __future__ import annotations

import pytest

from titan_sdk.cluster.engines.ray.resources import (
    capacity,
    missing,
    parse_resources,
    resources_of,
    served_tags,
)
from titan_sdk.cluster.engines.ray.settings import RaySettings, parse_advertised
from titan_sdk.cluster.engines.ray.values import NodeState, Resources
from titan_sdk.errors import InvalidArgument


def node(name: str, **total: float) -> NodeState:
    return NodeState(f"id-{name}", name, "127.0.0.1", total)


NODES = [node("head"), node("one", CPU=4, memory=1e9), node("two", CPU=2, GPU=2, HIGH_MEM=1)]


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [
        ("GENERAL", {"CPU": 1.0}),
        ("GPU", {"GPU": 1.0}),
        ("HIGH_MEM", {"HIGH_MEM": 1.0}),
        ("CPU", {"CPU": 1.0}),  # as a custom resource it means the same
    ],
)
def test_a_tag_is_a_resource(tag: str, wanted: dict[str, float]) -> None:
    assert resources_of(tag, {}).as_ray() == wanted


def test_what_a_tag_takes_can_be_said_otherwise() -> None:
    given = parse_resources(["GPU=num_gpus:0.25,num_cpus:2", "BIG=num_cpus:4, HIGH_MEM : 1"])
    assert resources_of("GPU", given) == Resources(cpus=2.0, gpus=0.25)
    assert resources_of("BIG", given).as_ray() == {"CPU": 4.0, "HIGH_MEM": 1.0}
    assert resources_of("GENERAL", given) == Resources(cpus=1.0)


@pytest.mark.parametrize(
    "text",
    ["GPU", "GPU=", "GPU=num_gpus", "GPU=num_gpus:-1", "GPU=num_gpus:1.5", "GPU=num_gpus:x", "=num_cpus:1"],
)
def test_a_text_that_says_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="--tag-resources"):
        parse_resources([text])


def test_a_tag_is_said_once() -> None:
    with pytest.raises(InvalidArgument, match="once"):
        parse_resources(["GPU=num_gpus:0.5", "GPU=num_gpus:1"])


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        (Resources(cpus=1), 6),
        (Resources(cpus=3), 1),  # 3 of 4, and not 1 of each
        (Resources(gpus=0.25), 8),
        (Resources(gpus=1 / 3), 6),  # whatever the rounding of a third
        (Resources(cpus=1, gpus=1), 2),
        (Resources(custom=(("TPU", 1.0),)), 0),
        (Resources(), 6),  # asks for nothing: as many as there are CPUs
    ],
)
def test_how_many_jobs_the_nodes_hold(wanted: Resources, places: int) -> None:
    assert capacity(wanted, NODES) == places


def test_a_cluster_serves_what_its_nodes_have() -> None:
    assert served_tags(NODES, {}) == {"GENERAL": 6, "GPU": 2, "HIGH_MEM": 1}
    assert served_tags(NODES[:1], {}) == {}


def test_what_is_missing_is_what_no_single_node_has() -> None:
    assert missing(Resources(cpus=4), NODES) == []
    assert missing(Resources(cpus=5, custom=(("TPU", 1.0),)), NODES) == ["CPU: 5", "TPU"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("front", ("front", 0)),
        ("front:91", ("front", 91)),
        ("10.0.0.1:91", ("10.0.0.1", 91)),
        ("[::1]:91", ("::1", 91)),
        ("::1", ("::1", 0)),
        ("[::1]", ("::1", 0)),
    ],
)
def test_an_advertised_address(text: str, address: tuple[str, int]) -> None:
    assert parse_advertised(text) == address


@pytest.mark.parametrize("text", ["", ":91", "front:port", "front:70000", "a:b:91", "http://front"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidArgument, match=r"--advertise-address .* is not (HOST or HOST:PORT|a port number)"
    ):
        parse_advertised(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": " "},
        {"address": "head"},
        {"address": "ray://"},
        {"address": "::1"},
        {"ahead": -1},
        {"prefetch": -1},
        {"connect_seconds": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        RaySettings(**wrong)  # type: ignore[arg-type]
