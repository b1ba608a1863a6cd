from __future__ import annotations

from collections import UserDict, UserList
from typing import Any

import pytest

from titan_provider.exceptions import TitanFunctionRefused
from titan_provider.values import to_json


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "ü", [], {}, {"a": [1, {"b": None}]}])
def test_json_stays_as_it_is(value: Any) -> None:
    assert to_json(value, "x") == value


def test_an_envelope_that_another_task_returned_is_the_value_it_stands_for() -> None:
    envelope = to_json((1,), "x")
    assert to_json([dict(envelope), {"a": dict(envelope)}], "x") == to_json([(1,), {"a": (1,)}], "x")


def test_sequences_of_other_kinds_become_lists() -> None:
    assert to_json({"a": (1, UserList([2]))}, "x") == {
        "titan_value": 1,
        "value": {"a": {"$": "tuple", "v": [1, [2]]}},
    }


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [0, {1: range(2)}]}, "x['a'][1][1] is of type builtins.range, which cannot be carried"),
        (range(3), "x is of type builtins.range"),
        (UserDict(), "x is of type collections.UserDict"),
        (ENDLESS, "contains itself"),
        ([{"titan_value": 1, "value": {"$": "pickle"}}], "x[0] is pickled by another task"),
    ],
    ids=str,
)
def test_anything_else_is_refused_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(TitanFunctionRefused) as caught:
        to_json(value, "x")
    assert words in str(caught.value)
