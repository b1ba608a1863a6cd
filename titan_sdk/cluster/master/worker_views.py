"""Where jobs run, for statistics and people: the workers, or the nodes behind pools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from titan_sdk.cluster.engines.ray.resources import resources_of, served_tags
from titan_sdk.cluster.master.master import Master

__all__ = ["WorkerView", "worker_views"]

_FIRST_PORT = 8080
"""Real workers are told apart by their ports; here these are names only."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    name: str
    port: int
    tags: tuple[str, ...]
    slots: int
    running: tuple[str, ...]
    resources: dict[str, tuple[float, float]] = field(default_factory=dict)
    """All of each resource, and before that what the jobs and services of this master leave of it."""

    @property
    def load(self) -> str:
        return f"{len(self.running)}/{self.slots}"


def worker_views(master: Master) -> Iterator[WorkerView]:
    """Every place that is alive."""
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
        job = master.state.scheduler.get(job_id)
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
            continue  # a head node that is to run nothing
        used = taken.get(node.name, Counter())
        resources = {
            name: (max(round(total - used[name], 4), 0.0), total)
            for name, total in sorted(node.total.items())
        }
        here = tuple(sorted(running.get(node.name, ())))
        yield WorkerView(
            node.name, _FIRST_PORT + index, tuple(sorted(counts)), sum(counts.values()), here, resources
        )
