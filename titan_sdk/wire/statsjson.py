"""STATS_JSON, read and written (protocol section 9).

A real master does not escape ids, and may drop or double a comma while workers come and go. Broken JSON is therefore an
error of its own, after which the caller asks again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from titan_sdk.errors import PeerProtocolError
from titan_sdk.model.stats import ClusterStats, JobHistoryEntry, WorkerStats

__all__ = ["encode", "parse"]

_WORKER_KEYS = frozenset({"port", "capabilities", "load", "active_job", "history", "services"})


def parse(text: str) -> ClusterStats:
    """Typed statistics.

    Raises:
        PeerProtocolError: it is not the JSON of section 9. With a real master this may be temporary; ask again.
    """
    try:
        data = json.loads(text)
        workers = tuple(_worker(entry) for entry in data["workers"])
        extra = {k: v for k, v in data.items() if k not in {"active_workers", "queue_size", "workers"}}
        return ClusterStats(workers, int(data.get("queue_size", 0)), extra)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise PeerProtocolError(
            f"cluster_stats: the master's statistics cannot be read ({exc}): {text[:200]!r}"
        ) from exc


def _worker(entry: Mapping[str, Any]) -> WorkerStats:
    running, _, slots = str(entry["load"]).partition("/")
    tags = [tag.strip() for tag in str(entry["capabilities"]).strip("[] ").split(",")]
    active = entry.get("running") or [entry.get("active_job")]
    return WorkerStats(
        name=str(entry.get("name") or entry["port"]),
        port=int(entry["port"]),
        tags=tuple(tag for tag in tags if tag),
        running=int(running),
        slots=int(slots or 0),
        active_jobs=tuple(str(job) for job in active if job),
        services=tuple(str(service) for service in entry.get("services") or ()),
        history=tuple(_history(item) for item in entry.get("history") or ()),
        resources={
            str(name): (float(free), float(total))
            for name, (free, total) in (entry.get("resources") or {}).items()
        },
    )


def _history(item: Mapping[str, Any]) -> JobHistoryEntry:
    ended = item.get("completed_at")
    return JobHistoryEntry(
        job_id=str(item["id"]),
        status=str(item["status"]),
        time=str(item.get("time", "")),
        completed_at=None if ended is None else float(ended) / 1000,
    )


def encode(workers: Iterable[Mapping[str, Any]], queue_size: int, **extra: Any) -> str:
    """The reply of the bundled master. Each worker is a mapping with the keys of section 9, and optional others.

    Raises:
        ValueError: a worker lacks one of the real master's keys, which other clients rely on.
    """
    listed = [dict(worker) for worker in workers]
    for worker in listed:
        if missing := _WORKER_KEYS - worker.keys():
            raise ValueError(f"worker statistics lack {sorted(missing)}")
    data = {"active_workers": len(listed), "queue_size": queue_size, "workers": listed, **extra}
    return json.dumps(data)
