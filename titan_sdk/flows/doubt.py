"""What to believe of a master that may be wrong: its store down, a worker gone (hazards 12, 19).
Each doubt is settled by something that this client or the job's own runtime wrote.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import replace

from titan_sdk.flows.core import Flow, ask, now
from titan_sdk.flows.report import JobRef, read_run_state, resolve_nonce
from titan_sdk.model.status import JobStatus
from titan_sdk.runtime import keys
from titan_sdk.wire import calls

__all__ = ["SILENCE", "Pulse", "has_record", "store_answers"]

_PROBE_KEY = "titan:probe"
SILENCE = 60.0
"""A runtime that runs writes its record every 5 s; one that has not for so long is gone."""
_LOOK_EVERY = 10.0
_DEAF = 45.0
"""Whoever has not been able to listen for so long has heard no silence: what cut this client off from the master, or
the master from its store, may have kept the runtime from writing as well.
"""


def store_answers() -> Flow[bool]:
    """Whether the master's store keeps a value: a real one answers ``OK`` and ``NULL`` for it while it is down."""
    probe = calls.kv_set(_PROBE_KEY, json.dumps({"v": 1, "probe": secrets.token_hex(8)}))
    yield from ask(replace(probe, with_id=False, repeatable=True))  # whose it is matters to nobody
    return (yield from ask(calls.kv_get(_PROBE_KEY))) is not None


def has_record(ref: JobRef) -> Flow[bool]:
    """Whether the store holds what a submit of that id wrote first."""
    return (yield from ask(calls.kv_get(keys.job_key(ref.full_id)))) is not None


class Pulse:
    """Looks after jobs that the master calls RUNNING: a worker that is lost, or a report of the end that never
    arrived, leaves that word for ever (section 6). The runtime's record tells.
    """

    def __init__(self, refs: Iterable[JobRef], moment: float) -> None:
        self._refs = {ref.full_id: ref for ref in refs}
        self._next = moment + _LOOK_EVERY
        self._seen: dict[str, tuple[object, float, float]] = {}
        """What a record said last, since when, and when that was read."""
        self.reasons: dict[str, str] = {}
        """Why a state was corrected, by full id."""

    def look(self, states: dict[str, JobStatus]) -> Flow[None]:
        """Correct states that the records have disproved; asks every ten seconds at most."""
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
            if moment - since >= SILENCE:
                states[job_id] = JobStatus.COMPLETED if state.succeeded else JobStatus.DEAD
                self.reasons[job_id] = (
                    "the master still calls it RUNNING, but never heard of its end"
                    if state.ended
                    else f"the master still calls it RUNNING, but its runtime on {state.worker} has been silent for over "
                    f"{SILENCE:g} s: the worker or its machine was lost, or cannot reach the master"
                )
