"""Values as users write them: durations, ids, and JSON on its way to a job, refused with the place inside the value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from titan_provider.exceptions import TitanFunctionRefused
from titan_sdk.config import parse_duration

__all__ = ["Duration", "as_id", "as_ids", "read_durations", "to_json"]

Duration = float | str | timedelta
"""A number of the unit that its parameter names, a text such as ``10m``, or a timedelta."""

_DEEPEST = 200


def read_durations(task_id: str, *, zero: bool = False, **written: Any) -> list[Any]:
    """Seconds of each duration in the order given; None stays None.

    :param written: by parameter: a number of seconds, a text such as ``10m`` or ``1h30m``, or a timedelta
    :raises ValueError: one is none of these, or not above 0; 0 is allowed where ``zero`` is set
    """
    return [
        None if value is None else parse_duration(value, f"task {task_id!r}: {name}", zero=zero)
        for name, value in written.items()
    ]


def plain(value: Any) -> Any:
    """The value with the text of every member of a ``(str, Enum)`` in its place: Jinja would render its name."""
    if isinstance(value, str):
        return str.__str__(value)
    if type(value) is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value


def as_id(value: Any) -> Any:
    """A number as the text that it was before a template was rendered to native values; anything else as it is."""
    if isinstance(value, str):
        return str.__str__(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def as_ids(values: Any) -> Any:
    """As :func:`as_id`, for each member of a list."""
    return [as_id(value) for value in values] if isinstance(values, list | tuple) else values


def to_json(value: Any, where: str, depth: int = 0) -> Any:
    """The value with nothing in it but what JSON has. Tuples, and the lazy sequence of a mapped task's XComs, become lists.

    :param where: name of the value in a refusal
    :raises TitanFunctionRefused: it cannot be sent without a change; the sentence names the place
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise TitanFunctionRefused(f"{where} is {value!r}, which JSON does not have; send a text or None")
        return value
    if depth > _DEEPEST:
        raise TitanFunctionRefused(
            f"{where[:100]}... is nested more than {_DEEPEST} deep, or contains itself"
        )
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TitanFunctionRefused(
                    f"{where} has the key {key!r} of type {type(key).__name__}, and JSON keys are texts; use str()"
                )
        return {key: to_json(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview | range):
        return [to_json(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    kind = type(value)
    raise TitanFunctionRefused(
        f"{where} is a {kind.__module__}.{kind.__qualname__}, which is not JSON; convert it first "
        "(a date with isoformat(), an array with tolist()), or send its place in a store"
    )
