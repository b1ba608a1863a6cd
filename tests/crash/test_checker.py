"""The checker of ``tests/support/linearizability.py`` on histories whose answer is plain."""

from __future__ import annotations

import math

import pytest

from tests.support.linearizability import UNKNOWN, Event, is_linearizable, members, register

# Slow: Masters are killed and started again, many times.
pytestmark = pytest.mark.slow


def event(name: str, *arguments: object, at: tuple[float, float], result: object = None) -> Event:
    return Event(name, arguments, *at, result)


def lost(name: str, *arguments: object, at: float) -> Event:
    return Event(name, arguments, at, math.inf, UNKNOWN)


PUT_A, PUT_B = event("put", "a", at=(0, 9), result="OK"), event("put", "b", at=(1, 2), result="OK")
RIGHT = [
    [],
    [event("get", at=(0, 1)), event("delete", at=(2, 3), result=False)],
    [PUT_A, PUT_B, event("get", at=(10, 11), result="a")],
    [PUT_A, PUT_B, event("get", at=(10, 11), result="b")],
    [PUT_A, event("get", at=(1, 2), result="a"), event("get", at=(3, 4), result="a")],
    [lost("put", "a", at=0), event("get", at=(1, 2)), event("get", at=(3, 4), result="a")],
    [lost("put", "a", at=0), event("get", at=(1, 2))],
    [
        event("swap", None, "a", at=(0, 5), result=True),
        event("swap", None, "b", at=(0, 5), result=False),
        event("get", at=(6, 7), result="a"),
    ],
]
WRONG = [
    [event("get", at=(0, 1), result="a")],
    [event("put", "a", at=(0, 1), result="OK"), event("get", at=(2, 3))],
    [PUT_A, event("get", at=(1, 2), result="a"), event("get", at=(3, 4))],
    [  # the lost update: put "hello" is made twice, around a swap of its value
        event("put", "hello", at=(0, 9), result="OK"),
        event("get", at=(1, 2), result="hello"),
        event("swap", "hello", "B", at=(3, 4), result=True),
        event("get", at=(10, 11), result="hello"),
    ],
    [lost("put", "a", at=5), event("get", at=(1, 2), result="a")],
    [event("swap", None, "a", at=(0, 5), result=True), event("swap", None, "b", at=(0, 5), result=True)],
]


@pytest.mark.parametrize(("history", "right"), [(h, True) for h in RIGHT] + [(h, False) for h in WRONG])
def test_of_a_value(history: list[Event], right: bool) -> None:
    assert is_linearizable(history, register, None) is right


def test_of_a_set() -> None:
    adds = [event("add", "m", at=(0, 9), result=n) for n in (1, 0)]
    both_new = [adds[0], adds[0]]
    assert is_linearizable(adds, members, frozenset())
    assert not is_linearizable(both_new, members, frozenset())
    taken_away = event("delete", at=(0, 9), result=True)
    assert is_linearizable([*both_new, taken_away], members, frozenset())
    assert not is_linearizable([*adds, event("members", at=(10, 11), result=[])], members, frozenset())
