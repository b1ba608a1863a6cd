"""What people are told of an autoscaler that could bring what is missing: pure values, no Ray."""

from __future__ import annotations

import pytest

from titan_sdk.cluster.engines.ray.outlook import who_brings
from titan_sdk.cluster.engines.ray.values import Growth, NodeType, Resources

GPU = Resources(gpus=1.0)
TYPES = (NodeType("general", {"CPU": 4.0}), NodeType("gpu", {"CPU": 8.0, "GPU": 1.0}))


@pytest.mark.parametrize(
    ("wanted", "growth", "ahead", "words"),
    [
        (
            GPU,
            Growth(TYPES),
            0,
            "could start a node of the type gpu, but is shown nothing: titan up with --ray-ahead",
        ),
        (GPU, Growth(TYPES), 2, "can start a node of the type gpu, and is shown up to 2 such jobs"),
        (GPU, Growth(TYPES, ("gpu",)), 1, "is starting a node of the type gpu, which has it"),
        (GPU, Growth(TYPES, ("general",)), 1, "can start a node of the type gpu, and is shown up to 1"),
        (
            Resources(gpus=2.0),
            Growth(TYPES),
            1,
            "none of the node types of its autoscaler (general, gpu) has it",
        ),
        (Resources(cpus=1.0), Growth(TYPES), 1, "a node of the type general or gpu, and"),
        (GPU, Growth(()), 1, "none of the node types of its autoscaler (there are none) has it"),
        (GPU, Growth(), 0, "an autoscaler cannot bring it as it is shown nothing"),
        (GPU, Growth(), 3, "up to 3 such jobs are shown to the cluster's autoscaler"),
        (GPU, Growth(None, ("big",)), 1, "is starting nodes of the type big"),
        (GPU, Growth(None, (), ((("GPU", 1.0),),)), 1, "says that none of its node types has it"),
        (GPU, Growth(None, (), ((("GPU", 2.0),),)), 1, "up to 1 such jobs are shown"),
    ],
)
def test_the_sentence_says_who_could_bring_it(
    wanted: Resources, growth: Growth, ahead: int, words: str
) -> None:
    assert words in who_brings(wanted, growth, ahead)
