"""Shared by every benchmark: a figure with the machine's own beside it, its ceiling, and the table that shows both.

A number alone says little on a shared machine. A figure therefore stands beside what the bare machine did in the same
minutes, and its ceiling is a ratio or a difference where one of them means something.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Figure", "Rounds", "load", "machine", "markdown", "seconds", "timed"]

HEADS = ("figure", "value", "against", "ratio", "ceiling", "")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement, and the one it is held against: ``against`` names it, ``bare`` is its value in the same unit."""

    what: str
    value: float
    unit: str
    against: str = ""
    bare: float | None = None
    ratio: float | None = None
    ceiling: str = ""
    """``value``, ``ratio`` or ``over`` (the value less the bare figure), then ``<=`` or ``>=``, then a number."""

    @property
    def over(self) -> float | None:
        return None if self.bare is None else self.value - self.bare

    @property
    def met(self) -> bool | None:
        """Whether the ceiling holds; ``None`` without one."""
        if not self.ceiling:
            return None
        name, sign, limit = self.ceiling.split()
        found: float = getattr(self, name)
        return found <= float(limit) if sign == "<=" else found >= float(limit)

    def cells(self) -> tuple[str, ...]:
        bare = f"{_number(self.bare)} {self.unit} ({self.against})" if self.bare is not None else self.against
        verdict = "" if self.met is None else "met" if self.met else "missed"
        return (
            self.what,
            f"{_number(self.value)} {self.unit}",
            bare,
            "" if self.ratio is None else f"{self.ratio:.2f}",
            self._rule(),
            verdict,
        )

    def _rule(self) -> str:
        if not self.ceiling:
            return ""
        name, sign, limit = self.ceiling.split()
        return {
            "value": f"{sign} {limit} {self.unit}",
            "ratio": f"ratio {sign} {limit}",
            "over": f"{sign} {limit} {self.unit} over it",
        }[name]


class Rounds:
    """Samples that were taken in turns. Ratios are taken within a turn: what else the machine did meets both sides."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = {}

    def __contains__(self, what: str) -> bool:
        return what in self._samples

    def note(self, what: str, value: float) -> None:
        self._samples.setdefault(what, []).append(value)

    def median(self, what: str) -> float:
        return statistics.median(self._samples[what])

    def p99(self, what: str) -> float:
        return statistics.quantiles(self._samples[what], n=100)[98]

    def ratio(self, what: str, bare: str) -> float:
        pairs = zip(self._samples[what], self._samples[bare], strict=True)
        return statistics.median(value / other for value, other in pairs)

    def figure(self, title: str, unit: str, what: str, bare: str, against: str, ceiling: str = "") -> Figure:
        """The medians of two kinds of samples, and the median of their ratios."""
        return Figure(
            title, self.median(what), unit, against, self.median(bare), self.ratio(what, bare), ceiling
        )


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def seconds(action: Callable[[], object], lasting: float) -> float:
    """How long it takes, of as many as fit; the mean."""
    action()
    done, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < lasting or done < 5:
        action()
        done += 1
    return took / done


def machine() -> str:
    """The date, the code and the machine, without a name of the machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {git.stdout.strip() or 'unknown'}; "
        f"{next(iter(models), platform.processor() or 'unknown')}, {len(os.sched_getaffinity(0))} cores, "
        f"{memory:.0f} GiB, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def load() -> str:
    """Processes that want a core, on average over the last one, five and fifteen minutes."""
    return "/".join(f"{value:.1f}" for value in os.getloadavg())


def markdown(groups: Mapping[str, Sequence[Figure]], facts: str) -> str:
    """One table of all groups."""
    lines = [f"{facts}.", "", f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for name, figures in groups.items():
        lines.append(f"| **{name}** |" + " |" * (len(HEADS) - 1))
        lines += [f"| {' | '.join(figure.cells())} |" for figure in figures]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
