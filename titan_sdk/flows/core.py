"""Flows: multi-step operations as generators that do no I/O and hold no clock.

A flow yields *steps*. A driver of ``drivers.py`` carries out each step and sends its outcome back. An operation is
therefore written once, and both clients run it. Write ``reply = yield from ask(call)``; never yield directly.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

from titan_sdk.errors import TitanError
from titan_sdk.wire.calls import Call

__all__ = [
    "STEP_ERRORS",
    "Ask",
    "Blocking",
    "Flow",
    "FlowRun",
    "Now",
    "Pause",
    "Step",
    "ask",
    "blocking",
    "now",
    "pause",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """Exchange one call with the master."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Now:
    """Read the driver's monotonic clock, in seconds."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """Call a function that may block on the disk. An asyncio driver runs it in a thread."""

    function: Callable[[], Any]


Step: TypeAlias = Ask | Pause | Now | Blocking
Flow: TypeAlias = Generator[Step, Any, T]
STEP_ERRORS = (TitanError, OSError, ValueError)
"""The errors of a step that are sent into the flow. Any other exception ends the driver."""


class FlowRun(Generic[T]):
    """A running flow. Its driver carries out ``step`` after ``step``, until there is none."""

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self.step: Step | None = None
        self._result: T | None = None
        self.answer(None)

    @property
    def result(self) -> T:
        """The flow's return value, once the flow has ended."""
        return cast("T", self._result)

    def answer(self, outcome: object) -> None:
        """Send the step's outcome into the flow. Raises what the flow raises."""
        self._go_on(self._flow.send, outcome)

    def fail(self, error: Exception) -> None:
        """Raise the step's error in the flow. Raises what the flow raises."""
        self._go_on(self._flow.throw, error)

    def _go_on(self, move: Callable[[Any], Step], value: object) -> None:
        try:
            self.step = move(value)
        except StopIteration as end:
            self.step, self._result = None, end.value


def ask(call: Call[T]) -> Flow[T]:
    """The call's typed reply. Raises what the exchange or the reading of the reply raises."""
    return cast("T", (yield Ask(call)))


def pause(seconds: float) -> Flow[None]:
    """Wait for ``seconds``, without blocking an event loop."""
    yield Pause(seconds)


def now() -> Flow[float]:
    """Monotonic seconds."""
    return cast("float", (yield Now()))


def blocking(function: Callable[[], T]) -> Flow[T]:
    """The function's result, without blocking an event loop."""
    return cast("T", (yield Blocking(function)))
