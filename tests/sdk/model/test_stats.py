"""Cluster statistics as values."""

from __future__ import annotations

from typing import Any

import pytest

from titan_sdk.model.stats import ClusterStats


@pytest.mark.parametrize(
    ("told", "queues"),
    [
        ({}, {}),
        ({"queues": {"GPU": 3, "GENERAL": 0}}, {"GPU": 3}),
        ({"queues": {"GPU": "3", "x": None}}, {}),
        ({"queues": ["GPU"]}, {}),
    ],
)
def test_queues_are_what_the_master_tells_and_nothing_else(
    told: dict[str, Any], queues: dict[str, int]
) -> None:
    assert ClusterStats((), 0, extra=told).queues == queues


@pytest.mark.parametrize(
    ("told", "problems"),
    [
        ({}, ()),
        ({"problems": [{"what": "retention", "says": "disk full"}, "x"]}, ("retention: disk full",)),
        ({"problems": "x"}, ()),
    ],
)
def test_problems_are_what_the_master_tells_a_sentence_each(
    told: dict[str, Any], problems: tuple[str, ...]
) -> None:
    assert ClusterStats((), 0, extra=told).problems == problems
