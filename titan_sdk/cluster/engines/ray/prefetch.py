"""How many jobs Ray has ready beyond its places, so that none is empty while the front hears of an end."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Prefetch"]

COVERED_SECONDS = 0.15
"""From a job's end until the front has stored it and the next job is on its way, with time to spare. What is ready
cannot be overtaken by a job of higher priority, which thus waits about that much longer at most."""
_WINDOW_SECONDS = 0.25
_ENOUGH_ENDS = 10
"""That tell the rate well enough to end a window early, if it was slower before: a burst may be over in a second."""


@dataclass(slots=True)
class _Rate:
    """Ends per second, counted in windows."""

    since: float
    count: int = 0
    per_second: float = 0.0


class Prefetch:
    """Counts the ends of jobs by tag. Times come in as arguments, in seconds.

    Args:
        least: how many are ready however slowly jobs end; 0: none ever.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._rates: dict[str, _Rate] = {}

    def ended(self, tag: str, now: float) -> bool:
        """A job has ended; whether ``wanted`` may have changed by that."""
        if not self._least:
            return False
        rate = self._rates.setdefault(tag, _Rate(now))
        rate.count += 1
        took = now - rate.since
        enough = max(_ENOUGH_ENDS, 2 * COVERED_SECONDS * rate.per_second)
        if took < _WINDOW_SECONDS and (rate.count < enough or took <= 0):
            return False
        # They are heard of many at a time, and a window that ends amid those counts too few, the next one too many.
        found = rate.count / took
        rate.since, rate.count = now, 0
        rate.per_second = (found + rate.per_second) / 2 if rate.per_second else found
        return True

    def total(self, now: float) -> int:
        """How many are to be ready of all tags of which jobs have ended."""
        return sum(self.wanted(tag, now) for tag in self._rates)

    def wanted(self, tag: str, now: float) -> int:
        """How many are to be ready."""
        rate = self._rates.get(tag)
        if rate is None:
            return self._least
        took = now - rate.since
        # A window in which nothing ends does not end by itself.
        per_second = rate.per_second if took < 2 * _WINDOW_SECONDS else rate.count / took
        return max(self._least, math.ceil(per_second * COVERED_SECONDS))
