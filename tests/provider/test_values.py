from __future__ import annotations

import datetime
from collections import UserDict, UserList
from typing import Any

import pytest

from titan_provider.exceptions import TitanFunctionRefused
from titan_provider.values import to_json


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "ü", [], {}, {"a": [1, {"b": None}]}])
def test_json_stays_as_it_is(value: Any) -> None:
    assert to_json(value, "x") == value


def test_sequences_of_other_kinds_become_lists() -> None:
    assert to_json({"a": (1, UserList([2]))}, "x") == {"a": [1, [2]]}


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [0, datetime.date(2026, 1, 2)]}, "x['a'][1] is a datetime.date, which is not JSON"),
        ({"a": {1: 2}}, "x['a'] has the key 1 of type int"),
        ([float("nan")], "x[0] is nan, which JSON does not have"),
        (b"ab", "x is a builtins.bytes"),
        ({1}, "x is a builtins.set"),
        (range(3), "x is a builtins.range"),
        (UserDict(), "x is a collections.UserDict"),
        (ENDLESS, "or contains itself"),
    ],
    ids=str,
)
def test_anything_else_is_refused_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(TitanFunctionRefused) as caught:
        to_json(value, "x")
    assert words in str(caught.value)
