"""What to believe of a master that may be wrong: its store down, a worker gone, an id used by somebody else too
(hazards 6, 12, 19). Each doubt is settled by something that this client or the job's own runtime wrote.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace

from titan_sdk.flows.core import Flow, ask, now
from titan_sdk.flows.keeping import put_own
from titan_sdk.flows.report import JobRef, own_status, read_run_state, resolve_nonce
from titan_sdk.flows.server import cluster_stats, server_info
from titan_sdk.model.status import JobStatus
from titan_sdk.runtime import keys, reader
from titan_sdk.session import Session
from titan_sdk.wire import calls

__all__ = ["SILENCE", "Pulse", "has_record", "is_kept", "mark_cancelled", "store_answers"]

_PROBE_KEY = "titan:probe"
SILENCE = 60.0
"""A runtime that runs writes its record every 5 s; one that has not for so long is gone."""
_SILENCE_AFTER_THE_END = 5.0
"""Nothing is written after the last record but the worker's own report, which comes within a second."""
_LOOK_EVERY = 10.0
_DEAF = 45.0
"""Whoever has not been able to listen for so long has heard no silence: what cut this client off from the master, or
the master from its store, may have kept the runtime from writing as well.
"""


def is_kept(key: str, value: str) -> Flow[bool]:
    """Write a value that nobody else writes, and read it back: a real master answers ``OK`` while its store is down
    (hazard 12).
    """
    yield from put_own(key, value)
    return (yield from ask(calls.kv_get(key))) == value


def store_answers() -> Flow[bool]:
    """Whether the master's store keeps a value: a real one answers ``OK`` and ``NULL`` for it while it is down."""
    probe = calls.kv_set(_PROBE_KEY, json.dumps({"v": 1, "probe": secrets.token_hex(8)}))
    yield from ask(replace(probe, with_id=False, repeatable=True))  # whose it is matters to nobody
    return (yield from ask(calls.kv_get(_PROBE_KEY))) is not None


def has_record(ref: JobRef) -> Flow[bool]:
    """Whether the store holds what a submit of that id wrote first."""
    return (yield from ask(calls.kv_get(keys.job_key(ref.full_id)))) is not None


def mark_cancelled(ref: JobRef) -> Flow[bool]:
    """Have the submission's runtime start nothing from now on, and end what runs; False if the store did not keep it.

    Whoever reads the submission's record after this, and finds none, knows that its code never runs.
    """
    assert ref.nonce is not None
    mark = json.dumps({"v": 1, "cancelled_at": time.time()})
    return (yield from is_kept(keys.cancel_key(ref.full_id, ref.nonce), mark))


class Pulse:
    """Looks after jobs whose master may be wrong. A worker that is lost, or a report of the end that never arrived,
    leaves RUNNING for ever; another submission of the id, or anybody's report, makes it COMPLETED (section 6). The
    runtime's record tells.
    """

    def __init__(self, session: Session, refs: Mapping[JobRef, tuple[str, ...]], moment: float) -> None:
        """``refs``: each job's parents among them, by full id."""
        self._session = session
        self._refs = {ref.full_id: ref for ref in refs}
        self._parents = {ref.full_id: parents for ref, parents in refs.items()}
        self._next = moment + _LOOK_EVERY
        self._seen: dict[str, tuple[object, float, float]] = {}
        """What a record said last, since when, and when that was read."""
        self._words: dict[str, JobStatus] = {}
        """What the master says of jobs of which it is not true."""
        self._unproven: dict[str, float] = {}
        """Since when the master calls a job over of which no record exists."""
        self._settled: set[str] = set()
        self.reasons: dict[str, str] = {}
        """Why a state was corrected, by full id."""
        self.never_ran: set[str] = set()
        """Jobs called COMPLETED that this submission never ran, and never will."""

    def prove(self, states: dict[str, JobStatus]) -> Flow[None]:
        """Correct ends that are not these submissions' own; only a real master tells of such."""
        doubtful = [
            job_id
            for job_id in self._refs
            if job_id not in self._settled
            and (states[job_id].is_terminal or states[job_id] is JobStatus.UNKNOWN)
        ]
        if not doubtful or (yield from server_info(self._session)).is_bundled:
            return
        for job_id in doubtful:
            word = states[job_id]
            ref = self._refs[job_id] = yield from resolve_nonce(self._refs[job_id])
            state = yield from read_run_state(ref)
            if ref.nonce and state is None and word in {JobStatus.DEAD, JobStatus.CANCELLED}:
                # The word may be about another submission of the id, or about a delayed job: from here on it is true.
                kept = yield from mark_cancelled(ref)
                state = yield from read_run_state(ref)
                states[job_id] = own_status(word, state, trusted=False) if kept else JobStatus.PENDING
            elif ref.nonce:
                states[job_id] = own_status(word, state, trusted=False)
            if states[job_id].is_terminal:
                self._settled.add(job_id)
            elif states[job_id] is not word:
                self._words[job_id] = word
            if ref.nonce and state is None and word is JobStatus.COMPLETED:
                yield from self._await_record(ref, states)

    def _await_record(self, ref: JobRef, states: dict[str, JobStatus]) -> Flow[None]:
        """The job may still be queued, or have been dropped by a master that takes it for completed."""
        moment = yield from now()
        since = self._unproven.setdefault(ref.full_id, moment)
        waits = any(not states[parent].is_terminal for parent in self._parents[ref.full_id])
        if moment - since < SILENCE:
            return
        if waits or (yield from cluster_stats()).queue_size:
            self._unproven[ref.full_id] = moment
            return
        if (yield from mark_cancelled(ref)) and (yield from read_run_state(ref)) is None:
            states[ref.full_id] = JobStatus.DEAD
            self._settled.add(ref.full_id)
            self.never_ran.add(ref.full_id)
            self.reasons[ref.full_id] = (
                "the master calls it COMPLETED, but this submission never ran: somebody else has used its id or reported "
                "its end"
            )

    def look(self, states: dict[str, JobStatus]) -> Flow[None]:
        """Correct jobs called RUNNING that the records have disproved; asks every ten seconds at most."""
        moment = yield from now()
        if moment < self._next:
            return
        self._next = moment + _LOOK_EVERY
        for job_id, ref in self._refs.items():
            if states[job_id] is not JobStatus.RUNNING:
                self._seen.pop(job_id, None)
                continue
            ref = self._refs[job_id] = yield from resolve_nonce(ref)
            state = yield from read_run_state(ref)
            if state is None:
                self._seen.pop(job_id, None)
                continue
            moment = yield from now()
            mark = (state.token, state.state, state.heartbeat_at)
            seen, since, read = self._seen.get(job_id, (None, moment, moment))
            if seen != mark or moment - read >= _DEAF:
                since = moment
            self._seen[job_id] = (mark, since, moment)
            if state.is_final:
                self._next = min(self._next, moment + _SILENCE_AFTER_THE_END)
            if moment - since >= (_SILENCE_AFTER_THE_END if state.is_final else SILENCE):
                self._conclude(job_id, state, states)

    def _conclude(self, job_id: str, state: reader.RunState, states: dict[str, JobStatus]) -> None:
        states[job_id] = own_status(JobStatus.UNKNOWN, state, trusted=False)
        if not state.ended:
            states[job_id] = JobStatus.DEAD
        self._settled.add(job_id)
        word = self._words.get(job_id, JobStatus.RUNNING)
        if word is JobStatus.DEAD or state.cancelled:
            return
        self.reasons[job_id] = (
            f"the master still calls it {word}, but never heard of its end"
            if state.ended
            else f"the master still calls it {word}, but its runtime on {state.worker} has been silent for over "
            f"{SILENCE:g} s: the worker or its machine was lost, or cannot reach the master"
        )
