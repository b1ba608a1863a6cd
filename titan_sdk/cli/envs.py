"""``titan envs``: the environments of jobs that a worker on this machine has built."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from titan_sdk.cli.context import CliSession, CommandGroup, command
from titan_sdk.cli.durations import DURATION
from titan_sdk.errors import InvalidArgument
from titan_sdk.runtime.worker import environments, limits

__all__ = ["register"]

MIB = 1024 * 1024
Digests = Annotated[list[str], typer.Argument(help="Which, by the beginnings of their digests.")]

envs = typer.Typer(
    name="envs",
    cls=CommandGroup,
    no_args_is_help=True,
    help="List and remove the environments that workers of this machine and user have built for jobs.",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(envs)


@command(envs, "list")
def show(session: CliSession) -> None:
    """Print them, the least recently used first; jobs run in those that are in use."""
    place = _place()
    found = environments.entries(place)
    rows = [_facts(place, entry) for entry in found]
    text = [f"{'digest':<10}{'MiB':>9}  {'used':<17}{'Python':<10}requirements"]
    text += [_line(row) for row in rows]
    empty = f"there is no environment in {place}"
    session.output.answer({"folder": place, "environments": rows}, "\n".join(text) if rows else empty)


@command(envs, "rm")
def remove(session: CliSession, digests: Digests) -> None:
    """Remove these; what a job runs in is left, and exit code 2 says so."""
    place = _place()
    found = environments.entries(place)
    chosen = []
    for digest in digests:
        meant = [entry for entry in found if entry.digest.startswith(digest)]
        if len(meant) != 1:
            many = f"{len(meant)} environments begin" if meant else "no environment begins"
            raise InvalidArgument(f"{many} with {digest!r} in {place}; `titan envs list` shows them")
        chosen += meant
    used = [entry.digest for entry in chosen if not environments.remove(place, entry.digest)]
    gone = [entry for entry in chosen if entry.digest not in used]
    session.output.answer(_removed(gone), _told(gone))
    if used:
        raise InvalidArgument(f"{', '.join(digest[:8] for digest in used)}: a job uses it; remove it later")


@command(envs, "prune")
def prune(
    session: CliSession,
    max_size: Annotated[
        float, typer.Option("--max-size", help="MiB that may stay.", metavar="MIB", show_default="20480")
    ] = limits.ENVIRONMENTS_SIZE / MIB,
    max_age: Annotated[
        float,
        typer.Option(
            "--max-age", help="Time since the last use: seconds, or 12h, 7d.", show_default="30d", **DURATION
        ),
    ] = limits.ENVIRONMENTS_AGE,
) -> None:
    """Remove what is too old, then the least recently used beyond the size, as workers do after each build; and what killed
    builds have left.
    """
    gone = environments.prune(_place(), max_size * MIB, max_age)
    session.output.answer(_removed(gone), _told(gone))


def _place() -> str:
    try:
        return environments.root()
    except environments.Unusable as exc:
        raise InvalidArgument(str(exc)) from exc


def _facts(place: str, entry: environments.Entry) -> dict[str, Any]:
    return {
        "digest": entry.digest,
        "used_at": entry.used_at,
        "in_use": environments.is_used(place, entry.digest),
        "folder": entry.path,
        **entry.facts,
    }


def _line(row: dict[str, Any]) -> str:
    used = "now" if row["in_use"] else time.strftime("%Y-%m-%d %H:%M", time.localtime(row["used_at"]))
    names = row.get("requirements", [])
    listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    size = row.get("bytes", 0) / MIB
    return f"{row['digest'][:8]:<10}{size:>9.1f}  {used:<17}{row.get('python', '?'):<10}{listed or '(no packages)'}"


def _removed(gone: list[environments.Entry]) -> dict[str, Any]:
    size = sum(entry.facts.get("bytes", 0) for entry in gone)
    return {"removed": [entry.digest for entry in gone], "bytes": size}


def _told(gone: list[environments.Entry]) -> str:
    size = sum(entry.facts.get("bytes", 0) for entry in gone) / MIB
    return f"removed {len(gone)} environments, {size:.1f} MiB" if gone else "nothing was removed"
