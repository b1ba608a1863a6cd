"""The bundled master's scheduler, a pure state machine: ``Scheduler`` takes events and returns effects."""

from __future__ import annotations

from titan_sdk.cluster.master.scheduler.job import Job, Phase
from titan_sdk.cluster.master.scheduler.machine import Scheduler
from titan_sdk.cluster.master.scheduler.placement import Worker
from titan_sdk.cluster.master.scheduler.types import (
    Effect,
    Ended,
    JobSpec,
    Kill,
    Outcome,
    Requeued,
    Settled,
    Start,
)

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
