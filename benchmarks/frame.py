"""What every benchmark shares: its options, the rows it yields, and how both are shown and kept.

A number alone says little on a shared machine. A row therefore names what it was measured against in the same
run, and the ratio of the two; the target is a ratio as well wherever one was promised.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["Options", "Row", "machine_facts", "per_second", "save", "show", "spread_ms"]


@dataclass(frozen=True, slots=True)
class Options:
    """What `python -m benchmarks` was told."""

    titan_address: tuple[str, int] | None = None
    """A running real Titan."""
    upstream: Path | None = None
    """A checkout of upstream, for its SDK."""
    quick: bool = False
    """A tenth of the work: does it run, not how fast."""

    def scaled(self, count: int) -> int:
        """How many of something that would be ``count``."""
        return max(count // 10, 1) if self.quick else count


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. ``ratio`` compares ``value`` with what ``against`` names, in the same run."""

    group: str
    what: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None
    target: str = ""
    column: str = ""
    """Of what it was measured, in a group that compares several things: then the group's table has a column for each."""


def per_second(action: Callable[[], object], seconds: float, at_least: int = 5) -> float:
    """How often it can be done, one after the other."""
    action()
    done, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds or done < at_least:
        action()
        done += 1
    return done / took


def spread_ms(samples: Iterable[float]) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds, of seconds."""
    values = [sample * 1e3 for sample in samples]
    return statistics.median(values), statistics.quantiles(values, n=100)[98]


def machine_facts() -> dict[str, str]:
    """What a reader needs to know of the machine; no name of it."""
    cpu = next(_cpu_models(), platform.processor() or "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load before": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def _cpu_models() -> Iterator[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        if line.startswith("model name"):
            yield line.partition(":")[2].strip()


def show(rows: list[Row], facts: dict[str, str], console: Console) -> None:
    for group in dict.fromkeys(row.group for row in rows):
        heads, *lines = _table([row for row in rows if row.group == group])
        table = Table(*heads, title=group, title_justify="left")
        for line in lines:
            table.add_row(*line)
        console.print(table)
    console.print(", ".join(f"{name}: {value}" for name, value in facts.items()))


def _table(rows: list[Row]) -> Iterator[list[str]]:
    """Heads, then lines."""
    columns = list(dict.fromkeys(row.column for row in rows))
    if columns == [""]:
        yield ["what", "value", "ratio", "against", "target"]
        for row in rows:
            yield [row.what, *_cells(row)]
        return
    yield ["what", *columns]
    for what, unit in dict.fromkeys((row.what, row.unit) for row in rows):
        cells = {row.column: _compared(row) for row in rows if row.what == what}
        yield [f"{what}, {unit}", *(cells.get(column, "") for column in columns)]


def _compared(row: Row) -> str:
    return _figure(row.value) + ("" if row.ratio is None else f" ({row.ratio:.2f}x)")


def _cells(row: Row) -> tuple[str, str, str, str]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
    return f"{_figure(row.value)} {row.unit}", ratio, row.against, row.target


def _figure(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def save(rows: list[Row], facts: dict[str, str], folder: Path) -> Path:
    """Keep a run: the numbers for programs, the table for people; the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / facts["at"].replace(" UTC", "").replace(" ", "T").replace(":", "")
    record = {"machine": facts, "rows": [asdict(row) for row in rows]}
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    lines = [
        f"# Benchmarks, {facts['at']}",
        "",
        ", ".join(f"{k}: {v}" for k, v in facts.items() if k != "at"),
    ]
    for group in dict.fromkeys(row.group for row in rows):
        heads, *found = _table([row for row in rows if row.group == group])
        lines += ["", f"## {group}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        lines += [f"| {' | '.join(line)} |" for line in found]
    page = stem.with_suffix(".md")
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return page
