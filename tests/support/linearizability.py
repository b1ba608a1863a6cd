"""Whether what several clients saw of one key can have happened one request after the other.

Wing and Gong's search: a request takes effect at one instant between its call and its return. Try every order that
allows, and remember what was tried. One whose outcome nobody knows may take effect at any time after its call, or never.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = object()
"""The result of a request whose reply was lost."""


@dataclass(frozen=True, slots=True)
class Event:
    """One request: what was asked between which instants, and what was answered."""

    name: str
    arguments: tuple[Any, ...]
    start: float
    end: float = math.inf
    result: Any = field(default=UNKNOWN)


Step = Callable[[Any, Event], tuple[Any, Any]]
"""A state and a request to the state after it and the right result."""


def register(state: str | None, event: Event) -> tuple[str | None, Any]:
    """A value with compare-and-set; ``None`` is absent."""
    match event.name, event.arguments:
        case "put", (value,):
            return value, "OK"
        case "get", ():
            return state, state
        case "swap", (expected, value):
            return (value, True) if state == expected else (state, False)
        case "delete", ():
            return None, state is not None
    raise AssertionError(event)


def members(state: frozenset[str], event: Event) -> tuple[frozenset[str], Any]:
    """A set."""
    match event.name, event.arguments:
        case "add", (member,):
            return state | {member}, int(member not in state)
        case "members", ():
            return state, sorted(state)
        case "delete", ():
            return frozenset(), bool(state)
    raise AssertionError(event)


def is_linearizable(history: list[Event], step: Step, state: Any) -> bool:
    """Whether there is an order. ``state`` is that before the first request."""
    events = sorted(history, key=lambda event: event.start)
    answered = sum(1 << place for place, event in enumerate(events) if event.result is not UNKNOWN)
    tried: set[tuple[int, Any]] = set()
    open_ends = [(0, state)]
    while open_ends:
        done, state = open_ends.pop()
        if answered & ~done == 0:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        left = [(place, event) for place, event in enumerate(events) if not done >> place & 1]
        first_end = min(event.end for _, event in left)
        for place, event in left:
            if event.start > first_end:
                break  # somebody returned before this one was called
            after, result = step(state, event)
            if event.result is UNKNOWN or event.result == result:
                open_ends.append((done | 1 << place, after))
    return False
