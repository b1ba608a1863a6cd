"""The master's numbers: STATS and STATS_JSON in the real master's shapes (protocol section 9), Prometheus metrics, health."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from titan_sdk.cluster.engines.ray.resources import resources_of, served_tags
from titan_sdk.cluster.master.master import Master
from titan_sdk.wire import statsjson
from titan_sdk.wire.hello import BUNDLED_SERVER

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["WorkerView", "collect", "health", "stats_json", "stats_text", "worker_views"]

_FIRST_PORT = 8080
"""The first port in the statistics. Real workers are identified by ports; here ports are only names."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    name: str
    port: int
    tags: tuple[str, ...]
    slots: int
    running: tuple[str, ...]
    resources: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The free and the total amount of each resource. Free is what this master's jobs and services leave."""

    @property
    def load(self) -> str:
        return f"{len(self.running)}/{self.slots}"


def worker_views(master: Master) -> Iterator[WorkerView]:
    """The live workers."""
    if master.pools is not None:
        yield from _nodes(master)
        return
    for spec in master.settings.worker_specs():
        worker = master.state.scheduler.workers.get(spec.name)
        if worker is not None:
            tags = tuple(sorted(worker.tags))
            yield WorkerView(spec.name, spec.port, tags, worker.slots, tuple(sorted(worker.busy)))


def _nodes(master: Master) -> Iterator[WorkerView]:
    assert master.pools is not None
    assert master.settings.ray is not None
    given = master.settings.ray.tag_resources
    running: dict[str | None, list[str]] = {}
    taken: dict[str | None, Counter[str]] = {}
    for job_id in master.runs.running():
        job = master.state.scheduler.jobs.get(job_id)
        if job is not None:
            running.setdefault(job.place, []).append(job_id)
            taken.setdefault(job.place, Counter()).update(resources_of(job.spec.tag, given).as_ray())
    for service in master.services:
        if service.process is not None:
            tag = service.line.requirement
            taken.setdefault(service.worker, Counter()).update(resources_of(tag, given).as_ray())
    for index, node in enumerate(master.pools.nodes):
        counts = served_tags([node], given)
        if not counts:
            continue  # a head node without places
        used = taken.get(node.name, Counter())
        resources = {
            name: (max(round(total - used[name], 4), 0.0), total)
            for name, total in sorted(node.total.items())
        }
        here = tuple(sorted(running.get(node.name, ())))
        yield WorkerView(
            node.name, _FIRST_PORT + index, tuple(sorted(counts)), sum(counts.values()), here, resources
        )


def stats_json(master: Master, version: str) -> str:
    """STATS_JSON: the real master's keys, and this project's own."""
    queues = master.state.scheduler.queue_lengths()
    return statsjson.encode(
        [_worker(master, view) for view in worker_views(master)],
        sum(queues.values()),
        server=BUNDLED_SERVER,
        version=version,
        queues=queues,
        delayed=master.state.scheduler.delayed,
        unfinished=len(master.state.scheduler),
        problems=master.state.failing(),
    )


def stats_text(master: Master) -> str:
    """STATS: the overview for people."""
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


# ---------------------------------------------------------------------- for Prometheus: counts and tags, no ids


def health(master: Master) -> tuple[bool, dict[str, Any]]:
    """Whether the master accepts jobs, and the answer of ``/health``."""
    problems = master.state.failing()
    word = "draining" if master.draining else "degraded" if problems else "ok"
    return not master.draining, {"status": word, **({"problems": problems} if problems else {})}


def collect(master: Master) -> Iterator[Metric]:
    """The metrics of jobs, store and workers."""
    yield from _jobs(master)
    yield from _workers(master)


def _jobs(master: Master) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    state = master.state
    yield GaugeMetricFamily("titan_jobs_unfinished", "Jobs that have not ended", len(state.scheduler))
    yield GaugeMetricFamily("titan_jobs_delayed", "Jobs whose time has not come", state.scheduler.delayed)
    queued = GaugeMetricFamily("titan_jobs_queued", "Jobs ready to run, by tag", labels=["tag"])
    for tag, length in sorted(state.scheduler.queue_lengths().items()):
        queued.add_metric([tag], length)
    yield queued
    ended = CounterMetricFamily(
        "titan_jobs_ended", "Jobs that ended, since the master started", labels=["status"]
    )
    for status, number in sorted(state.ended.items()):
        ended.add_metric([status], number)
    yield ended
    problems = len(state.failing())
    yield GaugeMetricFamily("titan_problems", "What fails at present, as /health tells", problems)
    files = GaugeMetricFamily("titan_store_bytes", "Bytes that the store takes")
    files.add_metric([], state.store.size())
    yield files


def _workers(master: Master) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    slots = GaugeMetricFamily("titan_slots", "Slots of the workers, by tag", labels=["tag"])
    busy = GaugeMetricFamily("titan_slots_busy", "Slots in use, by tag", labels=["tag"])
    totals: dict[str, tuple[int, int]] = {}
    for worker in master.state.scheduler.workers:
        for tag in worker.tags:
            had = totals.get(tag, (0, 0))
            totals[tag] = (had[0] + worker.slots, had[1] + len(worker.busy))
    for tag, (all_of_them, in_use) in sorted(totals.items()):
        slots.add_metric([tag], all_of_them)
        busy.add_metric([tag], in_use)
    yield slots
    yield busy
