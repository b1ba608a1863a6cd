"""``titan status``: the master as its clients see it."""

from __future__ import annotations

import typer

from titan_sdk.cli.context import CliSession, command
from titan_sdk.cli.render import status_tables

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "status")(status)


def status(session: CliSession) -> None:
    """Show the workers with their tags and load, and the queue."""
    with session.client() as client:
        info = client.server_info()
        stats = client.cluster_stats()
        address = client.config.address
    facts = {
        "address": address,
        "server": {"kind": info.kind, "version": info.version, "features": info.features},
        "queue_size": stats.queue_size,
        "queues": stats.queues,
        "tags": stats.tags,
        "workers": stats.workers,
        "extra": stats.extra,
    }
    session.output.answer(facts, status_tables(info, address, stats))
