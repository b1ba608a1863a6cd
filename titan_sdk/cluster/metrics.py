"""The master's numbers for Prometheus, and its health. They tell counts and tags, no ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from titan_sdk.cluster.master.master import Master

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["collect", "health"]


def health(master: Master) -> tuple[bool, dict[str, Any]]:
    """Whether it takes jobs, and what ``/health`` tells."""
    problems = master.state.troubles()
    word = "draining" if master.draining else "degraded" if problems else "ok"
    return not master.draining, {"status": word, **({"problems": problems} if problems else {})}


def collect(master: Master) -> Iterator[Metric]:
    """Jobs, store and workers."""
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
    problems = len(state.troubles())
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
