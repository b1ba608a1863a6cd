"""What each master gives its users, side by side, and what the machine itself would give them."""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from benchmarks import jobs, sdk
from benchmarks.frame import Options, Row
from benchmarks.masters import bundled, slots
from titan_sdk import TitanClient

GROUP = "overview"
ROUNDS = 3
JOBS = 1000
REAL_JOBS = 100
"""A real Titan takes 25 s for so many."""
UNITS = {
    "jobs": ("independent jobs", "/s", 1.0),
    "one job": ("one job from submit to its end", "ms", 1e3),
    "chain": (f"a chain of {jobs.CHAIN}", "ms", 1e3),
    "wake-up": ("a waiter hears of an end after", "ms", 1e3),
    **{
        f"{verb} {size}": (f"{verb} {size}", "/s", 1.0)
        for size in ("100 B", "1 MiB")
        for verb in ("put", "get")
    },
    "artifact up": ("an artifact of 7 MiB up", "MiB/s", 1.0),
    "artifact down": ("an artifact of 7 MiB down", "MiB/s", 1.0),
}
COMPARED = ("jobs", "one job", "chain")
BARE = "bare processes"


def run(options: Options) -> Iterator[Row]:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def note(column: str, values: dict[str, float]) -> None:
        for what, value in values.items():
            found[column][what].append(value)

    count = options.scaled(JOBS)
    with (
        bundled("--workers", "GENERAL=1", "--slots", slots()) as cold,
        bundled("--workers", "GENERAL=1", "--slots", slots(), "--warm-python") as warm,
    ):
        # In turns: what else the machine does meets all of them.
        for _ in range(1 if options.quick else ROUNDS):
            note(BARE, _bare(options))
            note("bundled", sdk.side("whole", "ours", count, cold.address, options))
            note("bundled, warm", sdk.side("whole", "ours", count, warm.address, options))
            if options.upstream:
                note("bundled, upstream SDK", sdk.side("whole", "upstream", count, cold.address, options))
        memory = _memory(options)
    if options.titan_address is not None:
        few = options.scaled(REAL_JOBS)
        note("real Titan", sdk.side("whole", "ours", few, options.titan_address, options))
        if options.upstream:
            note(
                "real Titan, upstream SDK", sdk.side("whole", "upstream", few, options.titan_address, options)
            )
    yield from _rows(found)
    yield Row(
        GROUP,
        f"memory of the master with {options.scaled(jobs.QUEUED):,} jobs",
        memory,
        "MiB",
        column="bundled",
    )


def _rows(found: dict[str, dict[str, list[float]]]) -> Iterator[Row]:
    for what, (words, unit, factor) in UNITS.items():
        for column, values in found.items():
            if what in values:
                value = statistics.median(values[what])
                bare = statistics.median(found[BARE][what]) if what in COMPARED and column != BARE else None
                yield Row(
                    GROUP, words, value * factor, unit, BARE, value / bare if bare else None, column=column
                )


def _bare(options: Options) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="titan-bench-") as folder:
        script = jobs.noop(Path(folder))
        one = jobs.bare_seconds(script)
        rate = max(jobs.bare_rate(options, script, at_once) for at_once in jobs.AT_ONCE)
        return {"jobs": rate, "one job": one, "chain": jobs.CHAIN * one}


def _memory(options: Options) -> float:
    with (
        tempfile.TemporaryDirectory(prefix="titan-bench-") as folder,
        bundled("--workers", "GENERAL=1") as master,
    ):
        with TitanClient(master.host, master.port) as client:
            jobs.submit_seconds(client, jobs.noop(Path(folder)), options.scaled(jobs.QUEUED))
        return jobs.resident(master.pid) / 2**20
