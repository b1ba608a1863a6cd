"""``titan approvals``: gates that wait for a person."""

from __future__ import annotations

from typing import Annotated

import typer

from titan_sdk.cli.context import CliSession, CommandGroup, command
from titan_sdk.cli.render import approvals_table

__all__ = ["register"]

Gate = Annotated[str, typer.Argument(help="The gate's id, or the id of the job it follows.")]

approvals = typer.Typer(
    name="approvals",
    cls=CommandGroup,
    no_args_is_help=True,
    help="Decide on jobs that ask a person before others go on.",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(approvals)


@command(approvals, "list")
def show(session: CliSession) -> None:
    """Print the gates that wait for a decision, the longest-waiting first."""
    with session.client() as client:
        pending = client.pending_approvals()
    session.output.answer(pending, [approvals_table(pending)] if pending else "no gate waits for a decision")


@command(approvals, "approve")
def approve(session: CliSession, gate: Gate) -> None:
    """Let the job's children run; exit code 5 when no such gate is waiting."""
    with session.client() as client:
        decided = client.approve(gate)
    session.output.answer({"gate_id": decided, "decision": "APPROVED"}, f"approved {decided}")


@command(approvals, "reject")
def reject(session: CliSession, gate: Gate) -> None:
    """Let none of the job's children run; exit code 5 when no such gate is waiting."""
    with session.client() as client:
        decided = client.reject(gate)
    session.output.answer({"gate_id": decided, "decision": "REJECTED"}, f"rejected {decided}")
