"""Flows: multi-step operations as generators that do no I/O and hold no clock.

A flow yields *steps* and is answered with their outcome; ``drive.py`` of each transport does the steps. So an
operation is written once and both clients run it. Write ``reply = yield from ask(call)``; never yield directly.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from titan_sdk.wire.calls import Call

__all__ = ["Ask", "Blocking", "Flow", "Now", "Pause", "Step", "ask", "blocking", "now", "pause"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """Exchange one call with the master."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for that many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Now:
    """Answer with the driver's monotonic clock, in seconds."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """Call a function that may block on the disk; an asyncio driver runs it in a thread."""

    function: Callable[[], Any]


Step: TypeAlias = Ask | Pause | Now | Blocking
Flow: TypeAlias = Generator[Step, Any, T]


def ask(call: Call[T]) -> Flow[T]:
    """The call's typed reply. Raises what the exchange or the reading of the reply raises."""
    return cast("T", (yield Ask(call)))


def pause(seconds: float) -> Flow[None]:
    """Let time pass."""
    yield Pause(seconds)


def now() -> Flow[float]:
    """Monotonic seconds."""
    return cast("float", (yield Now()))


def blocking(function: Callable[[], T]) -> Flow[T]:
    """The function's result, without blocking an event loop."""
    return cast("T", (yield Blocking(function)))
