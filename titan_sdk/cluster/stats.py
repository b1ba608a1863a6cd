"""STATS and STATS_JSON: the cluster at this instant, in the real master's shapes (protocol section 9)."""

from __future__ import annotations

from typing import Any

from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.master.worker_views import WorkerView, worker_views
from titan_sdk.wire import statsjson
from titan_sdk.wire.hello import BUNDLED_SERVER

__all__ = ["stats_json", "stats_text"]


def stats_json(master: Master, version: str) -> str:
    """The real master's keys, and more of our own."""
    queues = master.state.scheduler.queue_lengths()
    return statsjson.encode(
        [_worker(master, view) for view in worker_views(master)],
        sum(queues.values()),
        server=BUNDLED_SERVER,
        version=version,
        queues=queues,
        delayed=master.state.scheduler.delayed,
        unfinished=len(master.state.scheduler),
        problems=master.state.troubles(),
    )


def stats_text(master: Master) -> str:
    """The overview for people."""
    queues = master.state.scheduler.queue_lengths()
    live = list(worker_views(master))
    lines = [
        "--- TITAN SYSTEM MONITOR ---",
        f"Active Workers:    {len(live)}",
        f"Execution Queue:   {sum(queues.values())} jobs",
        f"Delayed (Time):    {master.state.scheduler.delayed} jobs",
        f"Unfinished:        {len(master.state.scheduler)} jobs",
        "-------------------------------",
        "Worker Status:",
    ]
    for view in live:
        lines.append(f" - [{view.port}] {view.name} Load: {view.load} | Skills: [{', '.join(view.tags)}]")
        lines.extend(f"    - [SVC] Service ID: {service}" for service in master.services.on_worker(view.name))
    return "\n".join(lines) + "\n"


def _worker(master: Master, view: WorkerView) -> dict[str, Any]:
    now = master.state.clock.now()
    history: list[dict[str, Any]] = []
    for entry in master.state.activity.of(view.name):
        item: dict[str, Any] = {
            "id": entry.job_id,
            "status": entry.status,
            "time": f"{((entry.ended or now) - entry.started) * 1000:.0f}ms",
        }
        if entry.ended is not None:
            item["completed_at"] = int(entry.ended * 1000)
        history.append(item)
    live = set(master.services.live())
    found = {
        "port": view.port,
        "capabilities": f"[{', '.join(view.tags)}]",
        "load": view.load,
        "active_job": view.running[-1] if view.running else None,
        "history": history,
        "services": [job_id for job_id in master.services.on_worker(view.name) if job_id in live],
        "name": view.name,
        "tags": view.tags,
        "slots": view.slots,
        "running": view.running,
    }
    return {**found, "resources": view.resources} if view.resources else found
