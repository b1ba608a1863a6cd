"""The bundled master's scheduler, a pure state machine: ``Scheduler`` takes events and returns effects."""

from __future__ import annotations

from titan_sdk.cluster.master.scheduler.jobs import (
    Effect,
    Ended,
    Job,
    JobSpec,
    Kill,
    Outcome,
    Phase,
    Requeued,
    Settled,
    Start,
)
from titan_sdk.cluster.master.scheduler.machine import Scheduler
from titan_sdk.cluster.master.scheduler.queues import Worker

__all__ = [
    "Effect",
    "Ended",
    "Job",
    "JobSpec",
    "Kill",
    "Outcome",
    "Phase",
    "Requeued",
    "Scheduler",
    "Settled",
    "Start",
    "Worker",
]
