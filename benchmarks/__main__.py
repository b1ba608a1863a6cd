"""`make bench`: every benchmark in one run, so that its ratios come from the same machine in the same minutes."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.frame import Options, Row, machine_facts, save, show
from titan_sdk.config import parse_address

GROUPS = {
    "overview": "the bundled master cold and warm, a real Titan, both SDKs, and bare processes, side by side",
    "codec": "frames encoded and decoded",
    "sdk": "this SDK's calls against the upstream SDK's, on the same master",
    "jobs": "jobs of the bundled master, cold and warm, against bare processes",
    "server": "the bundled master's store, artifacts and waiters",
    "store": "the bundled master's state in SQLite and in Redis",
    "ray": "jobs on a Ray cluster against plain Ray tasks, and 10,000 of them over 8 raylets",
    "triggers": "5,000 deferred tasks in one triggerer process, on the bundled master and on one like the real Titan",
}
"""Modules of this package with a ``run(options)``, in the order in which they run."""

RESULTS = Path(__file__).parent / "results"


def main(
    only: Annotated[list[str] | None, typer.Option(help="A group; may be given several times.")] = None,
    titan_address: Annotated[str, typer.Option(help="HOST:PORT of a running real Titan.")] = "",
    upstream: Annotated[Path | None, typer.Option(help="Checkout of upstream, for its SDK.")] = None,
    quick: Annotated[bool, typer.Option(help="A tenth of the work.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the table to benchmarks/results.")] = False,
) -> None:
    """Measure, and print one table per group."""
    unknown = [name for name in only or () if name not in GROUPS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: the groups are {', '.join(GROUPS)}")
    console = Console(width=150)
    options = Options(parse_address(titan_address) if titan_address else None, upstream, quick)
    facts = machine_facts()
    rows: list[Row] = []
    for name in only or GROUPS:
        console.print(f"[bold]{name}[/]: {GROUPS[name]}")
        for row in importlib.import_module(f"benchmarks.{name}").run(options):
            column = f" ({row.column})" if row.column else ""
            console.print(f"  {row.what}{column}: {row.value:,.4g} {row.unit}")
            rows.append(row)
    show(rows, facts, console)
    if keep:
        console.print(f"kept in {save(rows, facts, RESULTS)}")


if __name__ == "__main__":
    typer.run(main)
