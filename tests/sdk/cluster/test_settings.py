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
        ({"port": "9090"}, "port '9090' is not a whole number"),
        ({"port": None}, "port None is not a whole number"),
        ({"port": True}, "port True is not a whole number"),
        ({"port": 9090.5}, "port 9090.5 is not a whole number"),
        ({"metrics_port": "9091"}, "metrics_port '9091' is not a whole number"),
        ({"slots": "2"}, "slots '2' is not a whole number"),
        ({"slots": 1.5}, "slots 1.5 is not a whole number"),
        ({"drain_seconds": "5"}, "drain_seconds '5' is not a number"),
        ({"drain_seconds": float("nan")}, "drain_seconds nan: give 0 or more"),
        ({"workers": {"GENERAL": "2"}}, "the number of workers is not a whole number from 0 up"),
        ({"workers": {"GENERAL": 1.5}}, "the number of workers is not a whole number from 0 up"),
        ({"host": ""}, "host is empty"),
        ({"slots": 0}, "slots 0: give 1 to 1000"),
        ({"workers": {}}, "0 workers: a cluster has 1 to 1000"),
        ({"workers": {"GPU": -1}}, "the number of workers is not a whole number from 0 up"),
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
