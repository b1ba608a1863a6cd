"""STATS and STATS_JSON: the cluster at this instant, in the real master's shapes (protocol section 9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from titan_sdk.cluster.master import Master
from titan_sdk.cluster.scheduler import Worker
from titan_sdk.cluster.settings import WorkerSpec
from titan_sdk.wire import statsjson
from titan_sdk.wire.hello import BUNDLED_SERVER

__all__ = ["stats_json", "stats_text"]


def stats_json(master: Master, version: str) -> str:
    """The real master's keys, and more of our own."""
    queues = master.state.scheduler.queue_lengths()
    return statsjson.encode(
        [_worker(master, spec, worker) for spec, worker in _live(master)],
        sum(queues.values()),
        server=BUNDLED_SERVER,
        version=version,
        queues=queues,
        delayed=master.state.scheduler.delayed,
        unfinished=len(master.state.scheduler),
    )


def stats_text(master: Master) -> str:
    """The overview for people."""
    queues = master.state.scheduler.queue_lengths()
    live = list(_live(master))
    lines = [
        "--- TITAN SYSTEM MONITOR ---",
        f"Active Workers:    {len(live)}",
        f"Execution Queue:   {sum(queues.values())} jobs",
        f"Delayed (Time):    {master.state.scheduler.delayed} jobs",
        f"Unfinished:        {len(master.state.scheduler)} jobs",
        "-------------------------------",
        "Worker Status:",
    ]
    for spec, worker in live:
        lines.append(
            f" - [{spec.port}] {spec.name} Load: {_load(worker)} | Skills: [{', '.join(sorted(worker.tags))}]"
        )
        lines.extend(f"    - [SVC] Service ID: {service}" for service in master.services.on_worker(spec.name))
    return "\n".join(lines) + "\n"


def _live(master: Master) -> Iterator[tuple[WorkerSpec, Worker]]:
    for spec in master.settings.worker_specs():
        worker = master.state.scheduler.workers.get(spec.name)
        if worker is not None:
            yield spec, worker


def _load(worker: Worker) -> str:
    return f"{len(worker.busy)}/{worker.slots}"


def _worker(master: Master, spec: WorkerSpec, worker: Worker) -> dict[str, Any]:
    now = master.state.clock.now()
    running = sorted(worker.busy)
    history: list[dict[str, Any]] = []
    for entry in master.state.activity.of(spec.name):
        item: dict[str, Any] = {
            "id": entry.job_id,
            "status": entry.status,
            "time": f"{((entry.ended or now) - entry.started) * 1000:.0f}ms",
        }
        if entry.ended is not None:
            item["completed_at"] = int(entry.ended * 1000)
        history.append(item)
    live = set(master.services.live())
    return {
        "port": spec.port,
        "capabilities": f"[{', '.join(sorted(worker.tags))}]",
        "load": _load(worker),
        "active_job": running[-1] if running else None,
        "history": history,
        "services": [job_id for job_id in master.services.on_worker(spec.name) if job_id in live],
        "name": spec.name,
        "tags": sorted(worker.tags),
        "slots": worker.slots,
        "running": running,
    }
