"""Checks of a real master's states, which may be wrong: its store is down, a worker is gone, or another client uses the
same id (hazards 6, 12, 19). Each doubt is settled by a value that this client or the job's runtime wrote.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace

from titan_sdk.flows.confirmed_writes import put_own
from titan_sdk.flows.core import Flow, ask, now
from titan_sdk.flows.report import JobRef, own_status, read_run_state, resolve_nonce
from titan_sdk.flows.server import cluster_stats, server_info
from titan_sdk.model.status import JobStatus
from titan_sdk.runtime import keys, reader
from titan_sdk.session import Session
from titan_sdk.wire import calls

__all__ = ["SILENCE", "Pulse", "has_record", "is_kept", "mark_cancelled", "store_answers"]

_PROBE_KEY = "titan:probe"
SILENCE = 60.0
"""Seconds without a new record after which a runtime counts as gone. A live one writes every 5 s."""
_SILENCE_AFTER_THE_END = 5.0
"""Seconds between a job's last record and the worker's report, after which the report counts as lost. It takes 1 s."""
_LOOK_EVERY = 10.0
_DEAF = 45.0
"""Seconds without a look at the records after which an earlier silence does not count: the outage that kept this client
from reading may have kept the runtime from writing.
"""


def is_kept(key: str, value: str) -> Flow[bool]:
    """Write a value of this client's own and read it back. A real master answers ``OK`` while its store is down
    (hazard 12).
    """
    yield from put_own(key, value)
    return (yield from ask(calls.kv_get(key))) == value


def store_answers() -> Flow[bool]:
    """Whether the master's store keeps a value. While it is down, a real master answers ``OK`` and ``NULL``."""
    probe = calls.kv_set(_PROBE_KEY, json.dumps({"v": 1, "probe": secrets.token_hex(8)}))
    yield from ask(replace(probe, with_id=False, repeatable=True))  # any client's probe will do
    return (yield from ask(calls.kv_get(_PROBE_KEY))) is not None


def has_record(ref: JobRef) -> Flow[bool]:
    """Whether the store holds the record that a submit of that id writes first."""
    return (yield from ask(calls.kv_get(keys.job_key(ref.full_id)))) is not None


def mark_cancelled(ref: JobRef) -> Flow[bool]:
    """Tell the submission's runtime to start nothing more, and to end the running code. False: the store did not keep it.

    If the submission has no record after this, its code never runs.
    """
    assert ref.nonce is not None
    mark = json.dumps({"v": 1, "cancelled_at": time.time()})
    return (yield from is_kept(keys.cancel_key(ref.full_id, ref.nonce), mark))


class Pulse:
    """Corrects the states of a real master by the runtimes' records. A lost worker or a lost report leaves a job RUNNING
    for ever. Another submission of the id, or a report by any client, makes it COMPLETED (section 6).
    """

    def __init__(self, session: Session, refs: Mapping[JobRef, tuple[str, ...]], moment: float) -> None:
        """``refs``: the jobs, each with the full ids of its parents among them."""
        self._session = session
        self._refs = {ref.full_id: ref for ref in refs}
        self._parents = {ref.full_id: parents for ref, parents in refs.items()}
        self._next = moment + _LOOK_EVERY
        self._seen: dict[str, tuple[object, float, float]] = {}
        """The last content of a record, since when it stands, and when it was read."""
        self._words: dict[str, JobStatus] = {}
        """The master's states that are known to be wrong."""
        self._unproven: dict[str, float] = {}
        """Since when the master reports a job without a record as ended."""
        self._settled: set[str] = set()
        self.reasons: dict[str, str] = {}
        """Why a state was corrected, by full id."""
        self.never_ran: set[str] = set()
        """Jobs that the master reports as COMPLETED, but that this submission neither ran nor will run."""

    def prove(self, states: dict[str, JobStatus]) -> Flow[None]:
        """Correct ends that belong to other submissions. Only a real master reports such."""
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
                # The state may belong to another submission, or to a delayed job. From here on it counts.
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
        """Wait for the record of a job that may be queued, or dropped by a master that counts it as completed."""
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
        """Correct RUNNING states that the records disprove. Reads the records every ten seconds at most."""
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
