"""The master's present problems: logged, and shown by ``/health`` and ``titan doctor`` while they last."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from titan_sdk.cluster.store.changes import StoreFailed

__all__ = ["Problem", "Problems", "Sparingly"]

log = logging.getLogger(__name__)

_SPEAK_SECONDS = 60.0
_UNEXPECTED_SECONDS = 3600.0
"""Seconds for which an unexpected problem is shown after its last occurrence."""


class Sparingly:
    """Writes at most one log line per kind and minute."""

    def __init__(self, logger: logging.Logger, level: int = logging.WARNING) -> None:
        self._log, self._level = logger, level
        self._said: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def say(self, kind: str, sentence: str, exc: BaseException | None = None) -> None:
        """Write the line, unless the last one of its kind is less than a minute old. The next line has the number left out."""
        now, before = time.monotonic(), self._said.get(kind)
        if before is not None and now - before < _SPEAK_SECONDS:
            self._silent[kind] = self._silent.get(kind, 0) + 1
            return
        self._said[kind] = now
        more = self._silent.pop(kind, 0)
        suffix = f" (and {more} times since the last line about this)" if more else ""
        self._log.log(self._level, "%s%s", sentence, suffix, exc_info=exc)


@dataclass(slots=True)
class Problem:
    """``since`` and ``last`` are Unix seconds."""

    kind: str
    says: str
    since: float
    last: float
    times: int = 1


class Problems:
    """The present problems by kind."""

    def __init__(self) -> None:
        self._found: dict[str, Problem] = {}
        self._sparingly = Sparingly(log)

    def report(self, kind: str, exc: BaseException) -> None:
        """Record a failure of this kind. The caller goes on and tries again."""
        expected = isinstance(exc, StoreFailed | OSError)
        says = str(exc) if expected and str(exc) else f"{type(exc).__name__}: {exc}"
        now = time.time()
        problem = self._found.get(kind)
        if problem is None:
            self._found[kind] = Problem(kind, says, now, now)
        else:
            problem.says, problem.last = says, now
            problem.times += 1
        self._sparingly.say(kind, f"{kind} failed: {says}", None if expected else exc)

    def over(self, kind: str) -> None:
        """Remove the problem: it works again."""
        self._found.pop(kind, None)

    def listed(self) -> list[dict[str, Any]]:
        """The present problems, oldest first."""
        now = time.time()
        for kind in [kind for kind, found in self._found.items() if self._is_old(found, now)]:
            del self._found[kind]
        return [
            {"what": found.kind, "says": found.says, "since": found.since, "times": found.times}
            for found in sorted(self._found.values(), key=lambda found: found.since)
        ]

    @staticmethod
    def _is_old(found: Problem, now: float) -> bool:
        return found.kind.startswith("unexpected") and now - found.last > _UNEXPECTED_SECONDS
