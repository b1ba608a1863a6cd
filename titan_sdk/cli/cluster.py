"""``titan up`` and ``titan status``: the master itself."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from titan_sdk.cli.context import Session, command, is_loopback
from titan_sdk.cli.render import status_tables
from titan_sdk.errors import InvalidArgument

if TYPE_CHECKING:
    from titan_sdk.cluster.settings import ClusterSettings

__all__ = ["parse_workers", "register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "up", connects=False)(up)
    command(app, "status")(status)


def up(
    session: Session,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes any free one.")] = 9090,
    workers: Annotated[
        list[str] | None,
        typer.Option("--workers", help="Workers per tag, such as GENERAL=2,GPU=1 (the default); repeatable."),
    ] = None,
    slots: Annotated[int, typer.Option("--slots", help="Jobs a worker runs at once.")] = 1,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            help="Folder for state, logs and artifacts, kept between runs; default ~/.local/state/titan/PORT.",
            show_default=False,
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Listen on other addresses than this machine's own, without any login."
        ),
    ] = False,
) -> None:
    """Start the bundled master with its workers here, until Ctrl-C or SIGTERM."""
    from titan_sdk.cluster.serve import run_master
    from titan_sdk.cluster.settings import ClusterSettings

    if not insecure and not is_loopback(host):
        raise InvalidArgument(
            f"--host {host} is reachable from other machines, and whoever reaches a Titan master can run programs "
            "on it; use 127.0.0.1, or add --insecure if the network is yours"
        )
    counts = parse_workers(workers or ["GENERAL=2,GPU=1"])
    with tempfile.TemporaryDirectory(prefix="titan-up-") as scratch:
        folder = data_dir or (_state_folder(port) if port else Path(scratch))
        settings = ClusterSettings(folder, host=host, port=port, workers=counts, slots=slots)
        run_master(settings, lambda bound, number: _announce(session, settings, bound, number))


def _announce(session: Session, settings: ClusterSettings, host: str, port: int) -> None:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    listed = ", ".join(f"{tag}={count}" for tag, count in settings.workers.items())
    facts = {
        "event": "listening",
        "host": host,
        "port": port,
        "address": address,
        "workers": dict(settings.workers),
        "slots": settings.slots,
        "data_dir": str(settings.data_dir),
        "pid": os.getpid(),
    }
    text = (
        f"Titan master listening on {address} (workers {listed}; data in {settings.data_dir}); Ctrl-C ends it"
    )
    session.output.answer(facts, text)


def parse_workers(texts: list[str]) -> dict[str, int]:
    """The workers per tag in ``GENERAL=2,GPU=1``; a tag alone means one worker.

    Raises:
        InvalidArgument: a part is no such pair, or a tag is there twice.
    """
    counts: dict[str, int] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        tag, equals, count = part.partition("=")
        tag, count = tag.strip(), count.strip() if equals else "1"
        if not tag or not (count.isascii() and count.isdigit()) or tag in counts:
            raise InvalidArgument(
                f"--workers: {part!r} is not TAG=NUMBER, each tag once, such as GENERAL=2,GPU=1"
            )
        counts[tag] = int(count)
    return counts


def _state_folder(port: int) -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return Path(base or Path.home() / ".local" / "state") / "titan" / str(port)


def status(session: Session) -> None:
    """Show the workers with their tags and load, and the queue."""
    with session.client() as client:
        info = client.server_info()
        stats = client.cluster_stats()
        address = client.config.address
    facts = {
        "address": address,
        "server": {"kind": info.kind, "version": info.version, "features": info.features},
        "queue_size": stats.queue_size,
        "tags": stats.tags,
        "workers": stats.workers,
        "extra": stats.extra,
    }
    session.output.answer(facts, status_tables(info, address, stats))
