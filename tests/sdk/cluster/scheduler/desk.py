"""Somebody who performs the scheduler's effects on paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from titan_sdk.cluster.master.scheduler import (
    Effect,
    Ended,
    JobSpec,
    Kill,
    Outcome,
    Requeued,
    Scheduler,
    Settled,
    Start,
)
from titan_sdk.model.status import JobStatus


class Desk:
    """A scheduler with workers, and everything it has decided so far."""

    def __init__(
        self, *, slots: int = 1, now: float = 0.0, ageing: float | None = None, **workers: int
    ) -> None:
        self.scheduler = Scheduler(ageing)
        self.now = now
        self.running: dict[str, str] = {}
        self.attempts: dict[str, int] = {}
        self.ended: dict[str, JobStatus] = {}
        self.reasons: dict[str, str | None] = {}
        self.requeued: list[str] = []
        self.killed: list[str] = []
        self.settled: dict[str, Settled] = {}
        self.started: list[str] = []
        self._seq = 0
        for tag, count in workers.items():
            for n in range(1, count + 1):
                self.perform(self.scheduler.add_worker(f"{tag}-{n}", [tag], slots))

    def spec(self, job_id: str, *, tag: str = "GENERAL", parents: Sequence[str] = (), **more: Any) -> JobSpec:
        self._seq += 1
        return JobSpec(job_id, self._seq, tag, parents=tuple(parents), **more)

    def submit(self, job_id: str, **more: Any) -> None:
        self.submit_batch([{"job_id": job_id, **more}])

    def submit_batch(self, jobs: Iterable[dict[str, Any]]) -> None:
        specs = [self.spec(**job) for job in jobs]
        self.perform(self.scheduler.submit(specs, self.settled.get, self.now))

    def finish(self, job_id: str, outcome: Outcome = Outcome.SUCCESS) -> None:
        self.running.pop(job_id)
        self.perform(self.scheduler.exited(job_id, outcome, None, self.now))

    def cancel(self, job_id: str) -> bool:
        """Whether there was anything to cancel."""
        effects = self.scheduler.cancel(job_id)
        self.perform(effects)
        return bool(effects)

    def tick(self, now: float) -> None:
        self.now = now
        self.perform(self.scheduler.tick(now))

    def add_worker(self, name: str, *tags: str, slots: int = 1) -> None:
        self.perform(self.scheduler.add_worker(name, tags, slots))

    def remove_worker(self, name: str) -> None:
        self.perform(self.scheduler.remove_worker(name))

    def run_all(self) -> list[str]:
        """Let every job succeed as soon as it runs; the order in which they started."""
        while self.running:
            self.finish(next(iter(self.running)))
        return self.started

    def perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start(job_id, worker, attempt):
                    self.running[job_id] = worker
                    self.attempts[job_id] = attempt
                    self.started.append(job_id)
                case Kill(job_id):
                    self.killed.append(job_id)
                case Requeued(job_id=job_id):
                    self.requeued.append(job_id)
                case Ended(job_id=job_id, status=status, worker=worker, reason=reason):
                    self.ended[job_id] = status
                    self.reasons[job_id] = reason
                    self.settled[job_id] = Settled(status, worker)
