"""``titan store``: TitanStore's keys and sets."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from titan_sdk.cli.context import CliSession, CommandGroup, command
from titan_sdk.errors import NotFound

__all__ = ["register"]

Key = Annotated[str, typer.Argument(help="The key.")]

store = typer.Typer(
    name="store",
    cls=CommandGroup,
    no_args_is_help=True,
    help="Read and write TitanStore, the shared data bus.",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(store)


@command(store, "get")
def get(session: CliSession, key: Key) -> None:
    """Print the text of a key; exit code 5 when there is none."""
    with session.client() as client:
        value = client.store_get(key)
    if value is None:
        raise NotFound(f"TitanStore on {client.config.address} has no key {key!r}")
    session.output.answer({"key": key, "value": value}, value)


@command(store, "put")
def put(
    session: CliSession,
    key: Key,
    value: Annotated[str, typer.Argument(help="Any text; '-' reads it from standard input.")],
) -> None:
    """Set a key to any text; it is read back exactly."""
    text = sys.stdin.read() if value == "-" else value
    with session.client() as client:
        client.store_put(key, text)
    session.output.answer({"key": key, "stored": True})


@command(store, "sadd")
def sadd(session: CliSession, key: Key, member: Annotated[str, typer.Argument(help="The member.")]) -> None:
    """Add a member to a set; prints 1 when it is new, 0 when it was there."""
    with session.client() as client:
        added = client.store_sadd(key, member)
    session.output.answer({"key": key, "member": member, "added": added}, str(added))


@command(store, "smembers")
def smembers(session: CliSession, key: Key) -> None:
    """Print the members of a set, sorted, one per line."""
    with session.client() as client:
        members = client.store_smembers(key)
    session.output.answer({"key": key, "members": members}, "\n".join(members) if members else None)
