"""The common parts of all commands: the master, the output, and the exit after an error."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from titan_sdk.cli.exit_codes import reported
from titan_sdk.cli.output import Output
from titan_sdk.errors import InvalidArgument, MissingFile

__all__ = [
    "CliSession",
    "CommandGroup",
    "HostOption",
    "JsonOption",
    "PortOption",
    "command",
    "read_token",
]

_UNCUT = 10_000
HostOption = Annotated[
    str | None,
    typer.Option(
        "--host", help="The master's host; default $TITAN_HOST, else localhost.", show_default=False
    ),
]
PortOption = Annotated[
    int | None,
    typer.Option("--port", help="The master's port; default $TITAN_PORT, else 9090.", show_default=False),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")
]

if TYPE_CHECKING:
    from titan_sdk.client import TitanClient

F = TypeVar("F", bound=Callable[..., None])


@dataclass
class CliSession:
    """One run of the command. Options may stand before or behind the subcommand; the last one counts."""

    host: str | None = None
    port: int | None = None
    as_json: bool = False
    output: Output = field(default_factory=Output)
    security: dict[str, str] = field(default_factory=dict, repr=False)
    """The environment variables that global options replace: TLS files and the token."""

    def override(self, host: str | None = None, port: int | None = None, as_json: bool = False) -> CliSession:
        """The session with a subcommand's own options."""
        as_json = as_json or self.as_json
        port = self.port if port is None else port
        host = self.host if host is None else host
        return CliSession(host, port, as_json, Output(as_json), self.security)

    def client(self) -> TitanClient:
        """A client for the chosen master; connects to nothing yet."""
        from titan_sdk.client import TitanClient  # not for `titan --help`
        from titan_sdk.config import ClientConfig

        environ = {**os.environ, **self.security}
        return TitanClient(config=ClientConfig.from_env(environ, host=self.host, port=self.port))


def command(app: typer.Typer, name: str, *, connects: bool = True) -> Callable[[F], F]:
    """Register ``function(session, ...)`` as a command with ``--json`` and, if it connects to a master, ``--host`` and
    ``--port``. The SDK's exceptions become a sentence and an exit code.
    """

    def register(function: F) -> F:
        shared: dict[str, Any] = {"as_json": JsonOption}
        if connects:
            shared |= {"host": HostOption, "port": PortOption}

        @functools.wraps(function)
        def run(ctx: typer.Context, **given: Any) -> None:
            session: CliSession = ctx.obj or CliSession()
            with reported():
                function(session.override(**{key: given.pop(key) for key in shared}), **given)

        _describe(run, function, shared)
        app.command(name, cls=_Sections)(run)
        return function

    return register


class _Sections(TyperCommand):
    """A command whose help lists options under the headings that they name as ``rich_help_panel``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                record = (record[0].replace("<list[str]>", "<str>"), record[1])
                kind = "Arguments" if param.param_type_name == "argument" else "Options"
                heading = getattr(param, "rich_help_panel", None) or kind
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class CommandGroup(TyperGroup):
    """Commands whose help shows the whole first sentence of each; click would cut it to one line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, found.get_short_help_str(_UNCUT)) for name, found in commands if found]
            )


def _describe(run: Callable[..., None], function: Callable[..., None], shared: dict[str, Any]) -> None:
    """Give the wrapper the signature that typer reads: the function's own parameters and the shared ones."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    for key, annotation in shared.items():
        default: Any = False if key == "as_json" else None
        parameters.append(
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    # typer would otherwise look through the wrapper at the function itself.
    del run.__wrapped__  # type: ignore[attr-defined]


def read_token(path: Path, option: str = "--token-file") -> str:
    """The token, or another secret, in a file.

    Raises:
        MissingFile, InvalidArgument: it cannot be read, or is empty.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as exc:
        raise MissingFile(f"{option} {path} is not there; write the secret into it") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidArgument(f"{option} {path} cannot be read: {exc}") from exc
    if not token:
        raise InvalidArgument(f"{option} {path} is empty; write the secret into it")
    return token
