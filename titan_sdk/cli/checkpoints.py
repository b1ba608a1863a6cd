"""``titan checkpoints``: what jobs with a ``checkpoint_key`` have kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from titan_sdk.cli.context import CliSession, CommandGroup, command
from titan_sdk.errors import NotFound
from titan_sdk.model.checkpoint import Checkpoint

__all__ = ["register"]

checkpoints = typer.Typer(
    name="checkpoints",
    cls=CommandGroup,
    no_args_is_help=True,
    help="List, fetch and remove checkpoints of jobs.",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(checkpoints)


@command(checkpoints, "ls")
def ls(
    session: CliSession,
    prefix: Annotated[str, typer.Argument(help="How the keys begin.")] = "",
) -> None:
    """List checkpoints by their keys; a real Titan cannot list, but `get` and `rm` work there."""
    with session.client() as client:
        found = client.list_checkpoints(prefix)
    session.output.answer(found, "\n".join(map(_line, found)) or None)


@command(checkpoints, "get")
def get(
    session: CliSession,
    key: Annotated[str, typer.Argument(help="The checkpoint_key.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write it; default: its base name, here.")
    ] = None,
) -> None:
    """Fetch a checkpoint's file, or the zip of its folder."""
    with session.client() as client:
        found = client.get_checkpoint(key)
        if found is None or found.file is None:
            raise NotFound(f"there is no checkpoint {key!r} with a file")
        saved = client.fetch_artifact(found.file, output)
    session.output.answer({"saved": str(saved), "step": found.step}, str(saved))


@command(checkpoints, "rm")
def rm(session: CliSession, keys: Annotated[list[str], typer.Argument(help="Their keys.")]) -> None:
    """Remove checkpoints: the next job with such a key starts from nothing."""
    with session.client() as client:
        missing = [key for key in keys if not client.remove_checkpoint(key)]
    if missing:
        raise NotFound(f"there is no checkpoint {', '.join(map(repr, missing))}")
    session.output.answer({"removed": keys})


def _line(found: Checkpoint) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.saved_at)) if found.saved_at else "-" * 19
    size = f"{found.file.size:,}" if found.file else "no file"
    step = "" if found.step is None else f"step {found.step}"
    return f"{at} {size:>14}  {step:<12} {found.key}"
