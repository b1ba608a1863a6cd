"""``titan xcom``: the XComs that Airflow's TitanStoreXComBackend keeps in TitanStore."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Annotated, Any

import typer

from titan_sdk.cli.context import CliSession, CommandGroup, command
from titan_sdk.config import parse_duration
from titan_sdk.errors import CorruptData, InvalidArgument, NotSupported
from titan_sdk.xcom import Reference
from titan_sdk.xcom_gc import Garbage, collect, empty_referred, find_garbage

__all__ = ["register"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
# By name: the SDK does not import Airflow, and this module of the provider prints what is asked for.
_REFERENCES = "titan_provider.xcom.references"

xcom = typer.Typer(
    name="xcom",
    cls=CommandGroup,
    no_args_is_help=True,
    help="Airflow's XComs in TitanStore (TitanStoreXComBackend).",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(xcom)


@command(xcom, "gc")
def gc(
    session: CliSession,
    airflow: Annotated[
        bool,
        typer.Option(
            "--airflow",
            help="Collect values that no XCom in Airflow's database refers to. Needs that database: run it where "
            "`airflow` commands work, with the same settings.",
        ),
    ] = False,
    older_than: Annotated[
        str | None,
        typer.Option(help="Collect every value of that age, referred to or not: 90s, 15m, 12h, 30d, 4w."),
    ] = None,
    airflow_python: Annotated[
        str, typer.Option(help="Python of the Airflow installation.", show_default=False)
    ] = sys.executable,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; otherwise only list them.")] = False,
) -> None:
    """List, and with --delete remove, XCom values that are not needed any more.

    Airflow does not tell its XCom backend when a DAG run is deleted, so such values stay until somebody collects them.
    A value younger than an hour is never taken for one that nobody refers to.
    """
    if not airflow and older_than is None:
        raise InvalidArgument("xcom gc: nothing to go by; give --airflow, --older-than, or both")
    seconds = None if older_than is None else _seconds(older_than)
    references = _references(airflow_python) if airflow else None
    with session.client() as client:
        referred = None if references is None else {reference.key for reference in references}
        try:
            garbage = find_garbage(client, referred=referred, older_than=seconds, now=time.time())
        except NotSupported:
            _without_a_list(session, client, references, seconds, delete)
            return
        if delete:
            collect(client, garbage)
    rows = [
        {"key": g.key, "age": round(g.age), "why": g.why, "store_keys": len(g.store_keys)} for g in garbage
    ]
    session.output.answer({"values": rows, "deleted": delete}, _listing(garbage, delete))


def _listing(garbage: list[Garbage], deleted: bool) -> str:
    if not garbage:
        return "no XCom value to collect"
    lines = [f"{value.key}  {_age(value.age)}  {value.why}" for value in garbage]
    end = "deleted" if deleted else "to collect; nothing was deleted, repeat it with --delete"
    return "\n".join([*lines, f"{len(garbage)} XCom values {end}"])


def _without_a_list(
    session: CliSession,
    client: Any,
    references: list[Reference] | None,
    older_than: float | None,
    delete: bool,
) -> None:
    """Collect garbage on a real Titan, which can only read a value by its key."""
    stays = (
        "This master is a real Titan, which can neither list nor delete: values that Airflow does not refer to any "
        "more cannot be found, and stay"
    )
    if references is None or older_than is None:
        raise NotSupported(
            f"xcom gc: {stays}. Give --airflow and --older-than together to empty old values that Airflow still "
            "refers to; reading one of them is then an error that says so"
        )
    keys = empty_referred(client, references, older_than, time.time(), do=delete)
    end = (
        "overwritten with nothing" if delete else "could be overwritten with nothing; repeat it with --delete"
    )
    text = "\n".join([*keys, f"{len(keys)} XCom values that Airflow still refers to {end}.", f"{stays}."])
    session.output.answer({"values": [{"key": key} for key in keys], "emptied": delete, "note": stays}, text)


def _references(python: str) -> list[Reference]:
    done = subprocess.run([python, "-m", _REFERENCES], capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise InvalidArgument(
            f"xcom gc: Airflow's XComs cannot be read with {python}: {last}. Run this where `airflow` commands work, "
            "or name Airflow's Python with --airflow-python"
        )
    # Airflow may print warnings; the answer is the last line.
    return [
        reference
        for value in json.loads(done.stdout.splitlines()[-1])
        if (reference := _reference(value)) is not None
    ]


def _reference(value: Any) -> Reference | None:
    """The reference of a row, or None. A forged row in Airflow's database must neither keep a value nor stop the command."""
    try:
        return Reference.from_json(value)
    except CorruptData:
        return None


def _seconds(text: str) -> float:
    if text.strip()[-1:].isdigit():
        raise InvalidArgument(f"xcom gc: --older-than {text!r} has no unit; write {text.strip()}d for days")
    return parse_duration(text, "xcom gc: --older-than")


def _age(seconds: float) -> str:
    unit = next((name for name in "wdhm" if seconds >= 2 * _UNITS[name]), "s")
    return f"{seconds / _UNITS[unit]:.0f}{unit}"
