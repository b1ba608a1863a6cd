"""Human approval gates. A job with a ``hitl_message`` is followed by a gate job, and all its descendants wait for the gate.

Gate names and store keys are Titan's own (protocol section 11.1), so its dashboard shows and decides the same gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from titan_sdk.errors import InvalidDag
from titan_sdk.model.job import TitanJob
from titan_sdk.model.rules import GATE_PREFIX, full_id, gate_id, short_id

__all__ = [
    "QUEUE_KEY",
    "Decision",
    "PendingApproval",
    "add_gates",
    "gate_of",
    "message_key",
    "renamed_gate",
    "since_key",
    "status_key",
]

QUEUE_KEY = "titan:hitl:queue"
"""The key of the set of all gates that ever waited."""


class Decision(StrEnum):
    """The state of a gate, as stored."""

    CLEARED = "CLEARED"
    """Submitted and not reached yet, or cancelled."""
    WAITING = "WAITING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    TIMEOUT = "TIMEOUT"
    """The gate's time passed without a decision."""


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """A gate that waits for a decision."""

    gate_id: str
    job_id: str
    """The job whose outcome needs approval."""
    message: str
    since: float | None = None
    """Unix seconds on the worker's clock."""


def status_key(gate: str) -> str:
    """The key of the gate's state, where the decision is written."""
    return f"titan:hitl:status:{gate}"


def message_key(gate: str) -> str:
    """The key of the question."""
    return f"titan:hitl:message:{gate}"


def since_key(gate: str) -> str:
    """The key of the time since when the gate waits, in milliseconds."""
    return f"titan:hitl:ts:{gate}"


def gate_of(gate_or_job_id: str) -> str:
    """The gate's id, from itself or from the id of its job."""
    name = short_id(gate_or_job_id)
    return name if name.startswith(GATE_PREFIX) else gate_id(name)


def add_gates(jobs: Sequence[TitanJob], script: str) -> tuple[tuple[TitanJob, ...], dict[str, str]]:
    """Add a gate behind each job with a ``hitl_message``. The children of such a job become children of its gate.

    Returns the jobs and gates, and the messages by gate id. Jobs without a change are the same objects.

    Args:
        script: the path of the gate's script.

    Raises:
        InvalidDag: a job has the name of a gate.
    """
    gates = {job.full_id: gate_id(job.job_id) for job in jobs if job.hitl_message is not None}
    taken = {job.full_id: job for job in jobs}
    for asking, gate in gates.items():
        if full_id(gate) in taken:
            raise InvalidDag(
                f"job {taken[asking].job_id!r} asks for approval, but its gate's name {gate!r} is another job's; "
                "rename that job"
            )
    placed: list[TitanJob] = []
    for job in jobs:
        parents = tuple(gates.get(full_id(p), p) for p in job.parents or ())
        placed.append(job if parents == job.parents else replace(job, parents=parents))
        if job.full_id in gates:
            placed.append(_gate(job, gates[job.full_id], script))
    messages = {gates[job.full_id]: job.hitl_message for job in jobs if job.hitl_message is not None}
    return tuple(placed), messages


def renamed_gate(job: TitanJob, job_id: str) -> TitanJob:
    """The job under another id. A gate's script gets its new id."""
    if job.argv[:1] == (job.job_id,) and job.job_id.startswith(GATE_PREFIX):
        return replace(job, job_id=job_id, args=[job_id, *job.argv[1:]])
    return replace(job, job_id=job_id)


def _gate(job: TitanJob, gate: str, script: str) -> TitanJob:
    # One attempt: a gate that was rejected, or that nobody answered, must not ask again.
    return TitanJob(
        gate,
        script,
        args=[gate, str(job.max_wait_seconds), job.hitl_message or ""],
        parents=[job.job_id],
        priority=job.priority,
        max_attempts=1,
    )
