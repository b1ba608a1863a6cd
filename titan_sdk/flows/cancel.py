"""Cancelling jobs. The bundled master's answer is reliable. A real master still starts a cancelled job that was delayed,
and lets cancelled services run on (section 7). A mark in TitanStore therefore tells the job's runtime of the cancel, and
services are stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from titan_sdk.errors import NotFound, NotSupported, StoreUnavailable, WaitTimedOut
from titan_sdk.flows.core import Flow, ask, now, pause
from titan_sdk.flows.liveness import mark_cancelled, store_answers
from titan_sdk.flows.report import (
    JobRecord,
    JobRef,
    own_status,
    read_job_record,
    read_run_state,
    resolve_nonce,
)
from titan_sdk.flows.server import cluster_stats, server_info
from titan_sdk.model.status import JobStatus
from titan_sdk.runtime.reader import RunState
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls

__all__ = ["cancel_dag", "cancel_job", "wait_stopped"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_LAST_WORDS = 30.0
"""Seconds of a real worker's guard beyond the grace: to end all processes and to write the record."""

_SERVICE_PATIENCE = 30.0
"""Seconds to wait for a starting service. A real master gives its port 20 s, and cannot stop it earlier."""
_SERVICE_PAUSE = 0.5
_CLOCKS = 5.0
"""The largest difference between two clients' clocks, in seconds."""


def cancel_job(session: Session, ref: JobRef) -> Flow[JobStatus]:
    """Cancel a job and return its state afterwards. A job that has ended stays as it is.

    Raises:
        NotFound: the master does not know the id. No request was sent that could create it.
        StoreUnavailable: the master's store does not answer, so the job may still run.
    """
    info = yield from server_info(session)
    if info.is_bundled:
        return (yield from _cancel_at_bundled(ref))
    record = None if ref.nonce else (yield from read_job_record(ref.job_id))
    nonce = ref.nonce or (record.nonce if record else None)
    word = yield from ask(calls.job_status(ref.job_id))
    if word is JobStatus.UNKNOWN and not nonce:
        word = yield from _known(ref)
    if nonce:
        return (yield from _cancel_runtime_job(JobRef(ref.job_id, nonce), word))
    if (record and record.service) or (yield from _is_service(ref, word)):
        return (yield from _end_service(ref, word))
    return (yield from _cancel_plain_job(ref, record, word))


def wait_stopped(session: Session, ref: JobRef, timeout: float | None = None) -> Flow[bool]:
    """Wait until no process of a cancelled job is left. False: ``timeout`` seconds passed first."""
    info = yield from server_info(session)
    ref = yield from resolve_nonce(ref)
    begun = changed = yield from now()
    seen: RunState | None = None
    length = _FIRST_PAUSE
    while True:
        if "job_info" in info.features:
            left = (yield from ask(extended_calls.job_info(ref.job_id))).stopping
        else:
            state = yield from read_run_state(ref)
            moment = yield from now()
            if state != seen:
                seen, changed = state, moment
            # A launcher that was killed before it had a guard leaves a record that stays unfinished.
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


def cancel_dag(session: Session, refs: Sequence[JobRef]) -> Flow[dict[str, JobStatus]]:
    """Cancel every job; returns their states afterwards. Children come first, so that none starts meanwhile."""
    states: dict[str, JobStatus] = {}
    for ref in reversed(refs):
        states[ref.job_id] = yield from cancel_job(session, ref)
    return {ref.job_id: states[ref.job_id] for ref in refs}


def _cancel_at_bundled(ref: JobRef) -> Flow[JobStatus]:
    state = yield from ask(calls.job_status(ref.job_id))
    if state is JobStatus.UNKNOWN:
        raise _not_found(ref)
    if state in {JobStatus.DEAD, JobStatus.CANCELLED}:
        return state
    # Also for a completed job, which may be a running service. Otherwise the master changes nothing.
    yield from ask(calls.cancel_job(ref.job_id))
    return (yield from ask(calls.job_status(ref.job_id)))


def _cancel_runtime_job(ref: JobRef, word: JobStatus) -> Flow[JobStatus]:
    state = yield from read_run_state(ref)
    told = own_status(word, state, trusted=False)
    if told in {JobStatus.COMPLETED, JobStatus.DEAD} or (
        state is not None and state.ended and told.is_terminal
    ):
        return told
    marked = yield from mark_cancelled(ref)
    if not word.is_terminal:
        yield from ask(calls.cancel_job(ref.job_id))
    if not marked:
        raise StoreUnavailable(
            f"cancel_job: the master was told to cancel {ref.job_id!r}, but its store does not answer now, so a job that "
            "was delayed or about to start may run all the same; cancel it again"
        )
    # This read must follow the mark: a launcher that claims the job later reads the mark before it starts the job.
    told = own_status(
        (yield from ask(calls.job_status(ref.job_id))), (yield from read_run_state(ref)), trusted=False
    )
    return told if told.is_terminal else JobStatus.CANCELLED


def _cancel_plain_job(ref: JobRef, record: JobRecord | None, word: JobStatus) -> Flow[JobStatus]:
    if word.is_terminal:
        return word
    if word is JobStatus.PENDING and record is not None and (yield from _is_delayed(record)):
        # A real master would report CANCELLED, run the job when it is due, and lose its end.
        return word
    found = yield from ask(calls.cancel_job(ref.job_id))
    if word is JobStatus.PENDING and not found and record is None:
        # It was queued and is gone, or it is delayed and runs when it is due. Only its submitter can know.
        return JobStatus.UNKNOWN
    return (yield from ask(calls.job_status(ref.job_id)))


def _is_delayed(record: JobRecord) -> Flow[bool]:
    """Whether the job is in a real master's delay queue, which no cancel reaches. While it waits for a parent, one does."""
    if record.due_at is None or time.time() > record.due_at + _CLOCKS:
        return False
    for parent in record.parents:
        if (yield from ask(calls.job_status(parent))) is not JobStatus.COMPLETED:
            return False
    return True


def _is_service(ref: JobRef, word: JobStatus) -> Flow[bool]:
    """Whether a worker runs a service of that id."""
    if word not in {JobStatus.RUNNING, JobStatus.COMPLETED}:
        return False
    stats = yield from cluster_stats()
    return any(ref.full_id in worker.services for worker in stats.workers)


def _end_service(ref: JobRef, word: JobStatus) -> Flow[JobStatus]:
    """Stop a service in any state. A real master cannot stop a starting service, nor end a service by a cancel."""
    until = (yield from now()) + _SERVICE_PATIENCE
    while word in {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.COMPLETED}:
        if word is JobStatus.PENDING:
            yield from ask(calls.cancel_job(ref.job_id))
            # It may have been on its way to a worker at that moment; the next question tells.
            return (yield from ask(calls.job_status(ref.job_id)))
        try:
            yield from ask(calls.stop_service(ref.job_id))
        except NotFound:
            if word is JobStatus.COMPLETED:
                return word
        else:
            return JobStatus.CANCELLED
        if (yield from now()) >= until:
            raise WaitTimedOut(
                f"cancel_job: the service {ref.job_id!r} has been starting for {_SERVICE_PATIENCE:g} s, and a real "
                "Titan cannot stop it before its port answers; call stop_service later, or end its process at the worker"
            )
        yield from pause(_SERVICE_PAUSE)
        word = yield from ask(calls.job_status(ref.job_id))
        if word is JobStatus.DEAD:
            raise NotSupported(
                f"cancel_job: the service {ref.job_id!r} was given up by its master, a real Titan, because its port did "
                "not answer within 20 s, and cannot be stopped any more; end its process at the worker"
            )
    return word


def _known(ref: JobRef) -> Flow[JobStatus]:
    """The master's state of the job, once its store is known to answer."""
    if not (yield from store_answers()):
        raise StoreUnavailable(
            f"cancel_job: the master's store does not answer now, so nobody knows whether it has a job {ref.job_id!r}; "
            "nothing was sent, try again"
        )
    word = yield from ask(calls.job_status(ref.job_id))
    if word is JobStatus.UNKNOWN:
        # A real master would invent the status CANCELLED for an id it never saw.
        raise _not_found(ref)
    return word


def _not_found(ref: JobRef) -> NotFound:
    return NotFound(f"cancel_job: the master does not know the job {ref.job_id!r}")
