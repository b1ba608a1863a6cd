"""Cancelling: the reply of a real master says little, so the state is read again afterwards (section 7)."""

from __future__ import annotations

from collections.abc import Sequence

from titan_sdk.errors import NotFound
from titan_sdk.flows.core import Flow, ask
from titan_sdk.model.status import JobStatus
from titan_sdk.wire import calls

__all__ = ["cancel_dag", "cancel_job"]


def cancel_job(job_id: str) -> Flow[JobStatus]:
    """The state after the cancel. A job that has ended already is left as it is.

    Raises:
        NotFound: the master does not know the id; nothing was sent that could create it.
    """
    state = yield from ask(calls.job_status(job_id))
    if state is JobStatus.UNKNOWN:
        # A real master would invent the status CANCELLED for an id it never saw.
        raise NotFound(f"cancel_job: the master does not know the job {job_id!r}")
    if state.is_terminal:
        return state
    yield from ask(calls.cancel_job(job_id))
    return (yield from ask(calls.job_status(job_id)))


def cancel_dag(job_ids: Sequence[str]) -> Flow[dict[str, JobStatus]]:
    """Every job's state after cancelling those that had not ended; children first, so none starts meanwhile."""
    states: dict[str, JobStatus] = {}
    for job_id in reversed(job_ids):
        states[job_id] = yield from cancel_job(job_id)
    return {job_id: states[job_id] for job_id in job_ids}
