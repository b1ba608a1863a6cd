"""STATS and STATS_JSON as a real master prints them: by hand, nothing escaped (section 9)."""

from __future__ import annotations

import time

from titan_sdk.strict.master import StrictMaster
from titan_sdk.strict.registry import Registered

__all__ = ["stats_json", "stats_text"]


def stats_json(master: StrictMaster) -> str:
    """An id with a quote in it makes this invalid JSON, for every reader."""
    workers = master.registry.all()
    listed = ",".join(_worker(master, worker) for worker in workers)
    return f'{{"active_workers": {len(workers)},"queue_size": {len(master.queue)},"workers": [{listed}]}}'


def stats_text(master: StrictMaster) -> str:
    """The overview for people."""
    workers = master.registry.all()
    lines = [
        "",
        "--- TITAN SYSTEM MONITOR ---",
        f"Active Workers:    {len(workers)}",
        f"Execution Queue:   {len(master.queue)} jobs",
        f"Delayed (Time):    {master.delayed} jobs",
        f"Blocked (DAG):     {len(master.waiting)} jobs",
        f"Dead Letter (DLQ): {master.dead} jobs",
        "-------------------------------",
        "Worker Status:" if workers else "[INFO] No workers currently connected.",
    ]
    for worker in workers:
        load = f"{worker.load}/{worker.capacity} ({worker.load * 100 // worker.capacity}%)"
        lines.append(f" • [{worker.port}] Load: {load:<12} | Skills: {_tags(worker)}")
        lines += [f"    └── [SVC] Service ID: {service}" for service in _services(master, worker)]
    return "\n".join(lines) + "\n"


def _worker(master: StrictMaster, worker: Registered) -> str:
    active = f'"{worker.active_job}"' if worker.active_job is not None else "null"
    services = ",".join(f'"{service}"' for service in _services(master, worker))
    return (
        f'{{"port": {worker.port},"capabilities": "{_tags(worker)}",'
        f'"load": "{worker.load}/{worker.capacity}","active_job": {active}, '
        f'"history": [{",".join(_history(master, worker))}],"services": [{services}]}}'
    )


def _history(master: StrictMaster, worker: Registered) -> list[str]:
    items = []
    if worker.active_job is not None:
        running = master.executions.get(worker.active_job)
        if running is not None:
            spent = (time.time() - running.started) * 1000
            items.append(f'{{"id": "{worker.active_job}", "status": "RUNNING", "time": "{spent:.0f}ms"}}')
    for job in master.history.of(worker.port):
        execution = master.executions.get(job.job_id)
        spent_text, ended = "N/A", 0.0
        if execution is not None:
            ended = execution.ended
            spent_text = f"{((ended or time.time()) - execution.started) * 1000:.0f}ms"
        items.append(
            f'{{"id": "{job.job_id}", "status": "{job.status}", "time": "{spent_text}", '
            f'"completed_at": {ended * 1000:.0f}}}'
        )
    return items


def _tags(worker: Registered) -> str:
    return f"[{', '.join(worker.tags)}]"


def _services(master: StrictMaster, worker: Registered) -> list[str]:
    return [service for service, host in master.services.items() if host.port == worker.port]
