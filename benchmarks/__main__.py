"""`make bench`: every figure in one run, each beside what the bare machine did in the same minutes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.frame import Figure, load, machine, markdown

GROUPS = {
    "jobs": "Jobs on this machine",
    "values": "Requests, values, files, waiters",
    "environments": "Jobs with packages of their own",
    "ray": "Jobs on a Ray cluster",
    "imports": "What starts often",
    "tasks": "A task of Airflow, with `DAG.test()`",
    "scheduler": "Mapped tasks in a real Airflow",
    "triggers": "5,000 deferred Airflow tasks in one process",
}
"""Modules of this package with a ``run(scale)``, in the order in which they run."""

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
BEGIN, END = "<!-- make bench -->\n", "<!-- end of make bench -->\n"


def main(
    only: Annotated[list[str] | None, typer.Option(help="A group; may be given several times.")] = None,
    quick: Annotated[bool, typer.Option(help="A tenth of the work: does it run, not how fast.")] = False,
    upstream: Annotated[Path | None, typer.Option(help="A checkout of upstream's project.")] = None,
    page: Annotated[bool, typer.Option(help="Write the table into docs/scale.md.")] = False,
) -> None:
    """Measure, and print one table."""
    if unknown := [name for name in only or () if name not in GROUPS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: the groups are {', '.join(GROUPS)}")
    facts = f"{machine()}; load before {load()}"
    print(facts)
    groups: dict[str, list[Figure]] = {}
    for name in only or GROUPS:
        found = groups[GROUPS[name]] = []
        more = {"upstream": upstream} if name == "imports" else {}
        for figure in importlib.import_module(f"benchmarks.{name}").run(0.1 if quick else 1.0, **more):
            print("  " + " | ".join(cell for cell in figure.cells() if cell), flush=True)
            found.append(figure)
    table = markdown(groups, f"{facts}, after {load()}")
    if page:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + table + END + rest.partition(END)[2], encoding="utf-8")
    missed = [figure.what for found in groups.values() for figure in found if figure.met is False]
    print(f"\n{table}\nceilings missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    typer.run(main)
