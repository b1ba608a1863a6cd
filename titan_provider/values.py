"""Values on their way to a job: JSON and nothing else, refused with the place inside the value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from titan_provider.exceptions import TitanFunctionRefused

__all__ = ["as_seconds", "to_json"]

_DEEPEST = 200


def as_seconds(value: float | timedelta | None) -> float | None:
    """A duration as users write it, in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def to_json(value: Any, where: str, depth: int = 0) -> Any:
    """The value with nothing in it but what JSON has. Tuples, and the lazy sequence of a mapped task's XComs, become lists.

    :param where: what the value is called in a refusal
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
