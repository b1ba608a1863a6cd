"""The command ``titan``: global options and the commands, which live in one module per subject."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Annotated

import typer

from titan_sdk import __version__
from titan_sdk.cli import approvals, artifacts, cluster, dag, doctor, jobs, store
from titan_sdk.cli.context import HostOption, JsonOption, PortOption, Session
from titan_sdk.cli.exits import HELP
from titan_sdk.cli.render import Output

__all__ = ["app", "main"]

app = typer.Typer(
    name="titan",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=HELP,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"titan {__version__}")
        raise typer.Exit


@app.callback()
def titan(
    ctx: typer.Context,
    host: HostOption = None,
    port: PortOption = None,
    as_json: JsonOption = False,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Run work on a Titan cluster: submit jobs and DAGs, follow them, share state between them."""
    ctx.obj = Session(host, port, as_json, Output(as_json))


for _subject in (cluster, doctor, jobs, dag, approvals, store, artifacts):
    _subject.register(app)


def main() -> None:
    """Entry point; ends the process with the exit code that tells the cause."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not turn a job's output into a traceback.
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app()


if __name__ == "__main__":
    main()
