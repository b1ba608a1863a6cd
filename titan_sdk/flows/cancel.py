"""Cancelling: the reply of a real master says little, so the state is read again afterwards (section 7)."""

from __future__ import annotations

from collections.abc import Sequence

from titan_sdk.errors import NotFound
from titan_sdk.flows.core import Flow, ask, now, pause
from titan_sdk.flows.report import JobRef, read_run_state, resolve_nonce
from titan_sdk.flows.server import server_info
from titan_sdk.model.status import JobStatus
from titan_sdk.runtime.reader import RunState
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls

__all__ = ["cancel_dag", "cancel_job", "wait_stopped"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_LAST_WORDS = 30.0
"""Seconds that a real worker's guard may take besides the grace: to end what it finds, and to hand in the record."""


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


def wait_stopped(session: Session, ref: JobRef, timeout: float | None = None) -> Flow[bool]:
    """Until nothing is left of the run of a job that was cancelled. False: ``timeout`` seconds have passed before."""
    info = yield from server_info(session)
    ref = yield from resolve_nonce(ref)
    begun = changed = yield from now()
    seen: RunState | None = None
    length = _FIRST_PAUSE
    while True:
        if info.has("job_info"):
            left = (yield from ask(extended_calls.job_info(ref.job_id))).stopping
        else:
            state = yield from read_run_state(ref)
            moment = yield from now()
            if state != seen:
                seen, changed = state, moment
            # A launcher that was killed before it had a guard leaves a record that never ends.
            left = (
                state is not None and not state.ended and moment - changed < state.cancel_grace + _LAST_WORDS
            )
        if not left:
            return True
        moment = yield from now()
        if timeout is not None and moment - begun >= timeout:
            return False
        yield from pause(length if timeout is None else min(length, begun + timeout - moment))
        length = min(length * 1.5, _LONGEST_PAUSE)


def cancel_dag(job_ids: Sequence[str]) -> Flow[dict[str, JobStatus]]:
    """Every job's state after cancelling those that had not ended; children first, so none starts meanwhile."""
    states: dict[str, JobStatus] = {}
    for job_id in reversed(job_ids):
        states[job_id] = yield from cancel_job(job_id)
    return {job_id: states[job_id] for job_id in job_ids}
