"""The command ``titan``: global options and the commands, which live in one module per subject."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from titan_sdk import __version__
from titan_sdk.cli.context import CliSession, CommandGroup, HostOption, JsonOption, PortOption, read_token
from titan_sdk.cli.exit_codes import HELP, reported
from titan_sdk.cli.output import Output

__all__ = ["app", "main"]

_SUBJECTS = {
    "up": "up",
    "gc": "up",
    "status": "cluster",
    "doctor": "doctor",
    "submit": "jobs",
    "logs": "jobs",
    "cancel": "jobs",
    "dag": "dag",
    "approvals": "approvals",
    "store": "store",
    "xcom": "xcom",
    "upload": "artifacts",
    "artifacts": "artifacts",
    "envs": "envs",
    "checkpoints": "checkpoints",
}
"""The module of each command. It is imported when the command is used."""


class _Commands(CommandGroup):
    """Commands that are imported only when they are run or listed."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's
        return list(_SUBJECTS)

    def get_command(self, ctx: Any, name: str) -> Any:  # noqa: ARG002 - click's
        if name not in _SUBJECTS:
            return None
        subject = typer.Typer(rich_markup_mode=None)  # see below
        importlib.import_module(f"titan_sdk.cli.{_SUBJECTS[name]}").register(subject)
        return typer.main.get_group(subject).commands[name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in _SUBJECTS:
            # A typing error. Typer searches the nearest names among the loaded commands.
            self.commands = {name: self.get_command(ctx, name) for name in _SUBJECTS}
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="titan",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=HELP,
    # Plain help: rich's columns cut the names of options on a narrow terminal.
    rich_markup_mode=None,
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
    tls: Annotated[
        bool, typer.Option("--tls", help="Encrypt, and verify the master; default $TITAN_TLS.")
    ] = False,
    ca_cert: Annotated[
        str | None, typer.Option("--ca-cert", help="PEM file of the CA to trust; default $TITAN_CA_CERT.")
    ] = None,
    client_cert: Annotated[
        str | None, typer.Option("--client-cert", help="PEM file to show; default $TITAN_CLIENT_CERT.")
    ] = None,
    client_key: Annotated[
        str | None, typer.Option("--client-key", help="PEM file of its key; default $TITAN_CLIENT_KEY.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the master's token; default $TITAN_AUTH_TOKEN."),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Run work on a Titan cluster: submit jobs and DAGs, follow them, share state between them."""
    given = {"TITAN_CA_CERT": ca_cert, "TITAN_CLIENT_CERT": client_cert, "TITAN_CLIENT_KEY": client_key}
    security = {name: value for name, value in given.items() if value}
    if tls:
        security["TITAN_TLS"] = "1"
    if token_file is not None:
        with reported():
            security["TITAN_AUTH_TOKEN"] = read_token(token_file)
    ctx.obj = CliSession(host, port, as_json, Output(as_json), security)


def main() -> None:
    """Entry point; ends the process with the exit code that tells the cause."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not turn a job's output into a traceback.
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app()


if __name__ == "__main__":
    main()
