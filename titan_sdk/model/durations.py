"""The one parser of durations: a number in the parameter's unit, a text such as ``1h30m``, or a timedelta."""

from __future__ import annotations

import math
import re
from numbers import Real
from typing import Final

from titan_sdk.errors import InvalidArgument

__all__ = ["parse_duration"]

_SECONDS: Final = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_WORDS: Final = {"s": "seconds", "ms": "milliseconds"}
_PLAIN = r"\d+(\.\d+)?"
_PARTS = "".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?)\s*{unit}\s*)?" for unit in _SECONDS)
_LONGEST = 1e9
"""The longest duration in seconds, over thirty years. Operating systems cannot wait longer."""


def parse_duration(
    value: object, what: str, *, unit: str = "s", zero: bool = False, longest: float = _LONGEST
) -> float:
    """The seconds of a number, a text such as ``10m``, ``1h30m``, ``500ms``, ``2d`` or ``90``, or a timedelta.

    Args:
        what: names the duration in a refusal.
        unit: the unit of a number without one, ``s`` or ``ms``.
        zero: whether 0 is allowed.
        longest: the most seconds; by default over thirty years.

    Raises:
        InvalidArgument: the value is no duration, negative, 0 without ``zero``, or too long.
    """
    seconds = _seconds(value, _SECONDS[unit])
    if seconds is None or not (0 <= seconds <= longest) or (seconds == 0 and not zero):
        bound = "from 0 up" if zero else "above 0"
        if longest < _LONGEST:
            bound = f"from 0 to {longest:g}" if zero else f"above 0, up to {longest:g}"
        elif seconds is not None and seconds > longest:
            bound += " and below thirty years"
        raise InvalidArgument(
            f"{what} {value!r} is not a number of {_WORDS[unit]} {bound}, a text such as '10m', '1h30m' or '500ms', "
            "or a timedelta"
        )
    return seconds


def _seconds(value: object, factor: float) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, Real):
        number = float(value)
        return None if math.isnan(number) else number * factor
    if not isinstance(value, str):
        from datetime import timedelta  # most durations are numbers

        return value.total_seconds() if isinstance(value, timedelta) else None
    text = value.strip()
    if re.fullmatch(_PLAIN, text, re.ASCII):
        return float(text) * factor
    found = re.fullmatch(_PARTS, text, re.ASCII) if text else None
    if found is None:
        return None
    return sum(float(amount) * _SECONDS[unit] for unit, amount in found.groupdict().items() if amount)
