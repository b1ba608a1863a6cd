"""Tables of reports and statistics, for people."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from titan_sdk import values
from titan_sdk.model.gates import PendingApproval
from titan_sdk.model.report import JobReport
from titan_sdk.model.server import ServerInfo
from titan_sdk.model.stats import ClusterStats, WorkerStats
from titan_sdk.model.status import JobStatus

__all__ = ["approvals_table", "jobs_table", "state_text", "status_tables"]

_STYLES = {
    JobStatus.COMPLETED: "green",
    JobStatus.RUNNING: "cyan",
    JobStatus.DEAD: "bold red",
    JobStatus.CANCELLED: "yellow",
    JobStatus.UNKNOWN: "magenta",
    JobStatus.PENDING: "dim",
}


def state_text(report: JobReport) -> Text:
    """The state in its colour, or that the job will never run."""
    if report.upstream_failed:
        return Text("NOT RUN", style="yellow")
    return Text(report.state.value, style=_STYLES[report.state])


def jobs_table(reports: Sequence[JobReport]) -> Table:
    """One line per job: state, worker, seconds, and its result or error."""
    table = _table("job", "state", "worker", "seconds", "result")
    for report in reports:
        seconds = "" if report.seconds is None else f"{report.seconds:.2f}"
        table.add_row(
            Text(report.job_id),
            state_text(report),
            Text(report.worker or ""),
            seconds,
            Text(_outcome(report)),
        )
    return table


def _outcome(report: JobReport) -> str:
    if report.has_result:
        return json.dumps(values.dump(report.result), ensure_ascii=False)
    if report.state.is_terminal and not report.state.is_success:
        return report.describe().removeprefix(f"job {report.job_id!r} ")
    if report.progress is not None:
        fraction, text = report.progress
        return f"{fraction:.0%} {text}".strip() if fraction is not None else text
    return ""


def status_tables(info: ServerInfo, address: str, stats: ClusterStats) -> list[Any]:
    """The cluster at a glance."""
    running = sum(worker.running for worker in stats.workers)
    slots = sum(worker.slots for worker in stats.workers)
    tags = ", ".join(f"{tag} {count}" for tag, count in sorted(stats.tags.items())) or "none"
    head = Text(f"{info} at {address}", style="bold")
    facts = f"workers {len(stats.workers)} · slots {running}/{slots} in use · queue {stats.queue_size} · tags {tags}"
    lines = [head, Text(facts), *_queue_line(stats)]
    if not stats.workers:
        return [*lines, Text("no workers: nothing submitted here can run", style="yellow")]
    nodes = any(worker.resources for worker in stats.workers)
    titles = (
        "node" if nodes else "worker",
        "tags",
        "load",
        "running",
        "services",
        "last job",
        "free resources",
    )
    columns = [
        (title, cells)
        for title, *cells in zip(titles, *map(_worker_row, stats.workers), strict=True)
        if any(cells)
    ]
    table = _table(*(title for title, _ in columns))
    table.columns[0].no_wrap = True
    for row in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*map(Text, row))
    return [*lines, table]


def _table(*titles: str) -> Table:
    """A table whose long cells are wrapped, because half an id is useless."""
    table = Table()
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _queue_line(stats: ClusterStats) -> list[Text]:
    """The number of queued jobs by tag, if the master reports it."""
    queues = [
        f"{tag} {count}" + ("" if stats.has_worker_for(tag) else " (no worker has this tag)")
        for tag, count in sorted(stats.queues.items())
    ]
    return [Text(f"queued for {', '.join(queues)}")] if queues else []


def _worker_row(worker: WorkerStats) -> tuple[str, ...]:
    last = worker.history[-1] if worker.history else None
    return (
        worker.name,
        ", ".join(worker.tags),
        f"{worker.running}/{worker.slots}",
        ", ".join(job.removeprefix("DAG-") for job in worker.active_jobs),
        ", ".join(service.removeprefix("DAG-") for service in worker.services),
        f"{last.job_id.removeprefix('DAG-')} {last.status} {last.time}".strip() if last else "",
        _free_resources(worker),
    )


def _free_resources(worker: WorkerStats) -> str:
    """``CPU 3/4, GPU 0.5/1``; memory in GiB."""
    shown = []
    for name, (free, total) in worker.resources.items():
        scale, unit = (2**30, " GiB") if name == "memory" else (1, "")
        shown.append(f"{name} {round(free / scale, 2):g}/{round(total / scale, 2):g}{unit}")
    return ", ".join(shown)


def approvals_table(pending: Sequence[PendingApproval]) -> Table:
    """Gates that wait for a decision."""
    table = Table(box=None)
    for title in ("GATE", "JOB", "WAITING", "MESSAGE"):
        table.add_column(title, overflow="fold")
    for gate in pending:
        waited = "" if gate.since is None else f"{max(time.time() - gate.since, 0):.0f} s"
        table.add_row(*map(Text, (gate.gate_id, gate.job_id, waited, gate.message)))
    return table
