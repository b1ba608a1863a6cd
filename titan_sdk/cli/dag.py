"""``titan dag``: whole DAGs from pipeline files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from titan_sdk.cli.context import CliSession, CommandGroup, command
from titan_sdk.cli.durations import DURATION
from titan_sdk.cli.exit_codes import reported
from titan_sdk.cli.render import jobs_table
from titan_sdk.cli.uploads import uploading
from titan_sdk.cli.watch import warn_of_missing_tags, watch_dag
from titan_sdk.errors import DagFailed
from titan_sdk.flows import pipeline
from titan_sdk.handles import DagHandle

__all__ = ["register"]

dag = typer.Typer(name="dag", cls=CommandGroup, no_args_is_help=True, help="Submit DAGs.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(dag)


# Typer runs a group's only command as the group itself, unless the group has a callback.
@dag.callback()
def _group() -> None:
    """Submit DAGs."""


@command(dag, "submit")
def submit(
    session: CliSession,
    file: Annotated[Path, typer.Argument(help="A pipeline file (YAML).")],
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for the end; exit code 1 if a job fails.")
    ] = False,
    wait_timeout: Annotated[
        float | None,
        typer.Option(
            "--wait-timeout", help="Time to wait; then exit code 6, and the DAG goes on.", **DURATION
        ),
    ] = None,
) -> None:
    """Submit the DAG that a pipeline file describes."""
    with session.client() as client:
        with uploading(session, f"uploading {file.resolve().parent.name}") as progress:
            flow = pipeline.submit_yaml(client._session, file, progress=progress)
            handle = DagHandle(client, client._run(flow))
        warn_of_missing_tags(client, handle._track.submission.source)
        if not wait and wait_timeout is None:
            ids = [job.job_id for job in handle.jobs]
            text = f"submitted DAG {handle.name} (run {handle.run_id}): {', '.join(ids)}"
            session.output.answer({"name": handle.name, "run_id": handle.run_id, "job_ids": ids}, text)
            return
        with reported("interrupted; the DAG goes on, `titan cancel` ends its jobs"):
            report = watch_dag(handle, session.output, timeout=wait_timeout)
    session.output.answer(report, [jobs_table(report.jobs)])
    if report.failures:
        raise DagFailed(report)
