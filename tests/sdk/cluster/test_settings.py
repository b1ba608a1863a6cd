from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.errors import InvalidArgument


def test_workers_are_named_by_tag_and_number(tmp_path: Path) -> None:
    settings = ClusterSettings(tmp_path, workers={"GENERAL": 2, "GPU": 1})
    assert [(w.name, w.tag, w.port) for w in settings.worker_specs()] == [
        ("GENERAL-1", "GENERAL", 8080),
        ("GENERAL-2", "GENERAL", 8081),
        ("GPU-1", "GPU", 8082),
    ]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"port": 70000}, "port 70000: give 0 to 65535"),
        ({"host": ""}, "host is empty"),
        ({"slots": 0}, "slots 0: give 1 to 1000"),
        ({"workers": {}}, "0 workers: a cluster has 1 to 1000"),
        ({"workers": {"GPU": -1}}, "cannot be negative"),
        ({"workers": {"a|b": 1}}, r"worker tag 'a\|b' contains '\|'"),
        ({"workers": {"GENERAL": 10**6}}, "1000000 workers"),
        ({"durability": "ful"}, "durability 'ful' is none; give normal or full"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(
    tmp_path: Path, wrong: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        ClusterSettings(tmp_path, **wrong)


def test_later_changes_of_the_given_mapping_change_nothing(tmp_path: Path) -> None:
    given = {"GENERAL": 1}
    settings = ClusterSettings(tmp_path, workers=given)
    given["GPU"] = 5
    assert dict(settings.workers) == {"GENERAL": 1}
