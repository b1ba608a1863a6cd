"""Logs: the master's own where it keeps them whole, else the runtime's numbered chunks (section 8.3).

Where a job's output is, its record says: a launcher writes no chunks on a master that keeps the log itself.
"""

from __future__ import annotations

from titan_sdk.flows.core import Flow, ask, now, pause
from titan_sdk.flows.liveness import Pulse
from titan_sdk.flows.master_log import MasterLog
from titan_sdk.flows.report import JobRef, read_run_state, resolve_nonce
from titan_sdk.flows.server import server_info
from titan_sdk.flows.wait import Reconnect
from titan_sdk.model.loglines import LogLine, LogLines
from titan_sdk.model.report import LogPage
from titan_sdk.model.status import JobStatus
from titan_sdk.runtime import keys, reader
from titan_sdk.session import Session
from titan_sdk.wire import calls

__all__ = ["LogFollower", "fetch_logs", "read_logs"]

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_GROWTH = 1.5
_STATE_SECONDS = 1.0
"""The least time between two states of a line that the job rewrites."""


def fetch_logs(session: Session, ref: JobRef) -> Flow[str]:
    """Everything the job has printed so far.

    Complete and in order where the runtime travelled with the job. Otherwise what the master has: a real one
    keeps the last 100 lines, not always in order, of all runs of the id.
    """
    ref = yield from resolve_nonce(ref)
    parts: list[str] = []
    if (yield from _is_at_master(session, ref)):
        log = MasterLog(session, ref.job_id, nonce=ref.nonce)
        while more := (yield from log.more()):
            parts.append(more)
        return "".join(parts)
    while (text := (yield from _chunk(ref, len(parts)))) is not None:
        parts.append(text)
    return "".join(parts) if parts else (yield from ask(calls.get_logs(ref.job_id)))


def _is_at_master(session: Session, ref: JobRef) -> Flow[bool | None]:
    """Whether the master's log has the job's output; ``None`` while no record says so."""
    info = yield from server_info(session)
    if not ref.nonce or "run_logs" not in info.features:
        return False
    state = yield from read_run_state(ref)
    return None if state is None else state.logs_to_master


def _chunk(ref: JobRef, index: int) -> Flow[str | None]:
    if not ref.nonce:
        return None
    text = yield from ask(calls.kv_get(keys.log_key(ref.full_id, ref.nonce, index)))
    return None if text is None else reader.parse_log_chunk(text).text


def read_logs(
    session: Session, ref: JobRef, position: int = 0, *, chunks: int = 64, until: int | None = None
) -> Flow[LogPage]:
    """What was printed from ``position`` on, without waiting."""
    ref = yield from resolve_nonce(ref)
    if not ref.nonce or (yield from _is_at_master(session, ref)):
        log = MasterLog(session, ref.job_id, position, ref.nonce)
        text = yield from log.more(until)
        return LogPage(text, log.position)
    chunks = chunks if until is None else until - position
    parts: list[str] = []
    while len(parts) < chunks and (part := (yield from _chunk(ref, position + len(parts)))) is not None:
        parts.append(part)
    return LogPage("".join(parts), position + len(parts))


class LogFollower:
    """Hands out a job's output as it comes, each line once, over all its attempts. For one thread at a time.

    ``position`` may be stored and given back later to go on without a gap or a repeat; it is exact for jobs with
    the runtime. Loop: ``lines = yield from follower.read(); ...; if follower.done: stop``.
    """

    def __init__(self, session: Session, ref: JobRef, *, position: int = 0) -> None:
        self._session = session
        self._ref = ref
        self._log = MasterLog(session, ref.job_id, position, ref.nonce)
        self._at_master: bool | None = None
        self._chunks = position
        self.done = False
        self._lines = LogLines()
        self._state_shown = ""
        self._state_at = float("-inf")
        self._interval = _FIRST_PAUSE
        self._pulse: Pulse | None = None
        self._reconnect = Reconnect(session)

    @property
    def position(self) -> int:
        """Chunks consumed so far; of the master's log, how much of it."""
        return self._chunks if self._ref.nonce and not self._at_master else self._log.position

    def read(self) -> Flow[list[LogLine]]:
        """New lines, and at most once a second the state of one that the job rewrites (``LogLine.is_final`` is false);
        pauses briefly when there are none. Outlasts a master that is away for a while.
        """
        lines = [LogLine(line) for line in (yield from self._reconnect.outlast(self._read()))]
        return lines + (yield from self._rewritten())

    def _rewritten(self) -> Flow[list[LogLine]]:
        state, moment = self._lines.state, (yield from now())
        if state is None or state == self._state_shown or moment - self._state_at < _STATE_SECONDS:
            return []
        self._state_shown, self._state_at = state, moment
        return [LogLine(state, is_final=False)]

    def _read(self) -> Flow[list[str]]:
        self._ref = yield from resolve_nonce(self._ref)
        text = yield from self._new_text()
        if text is not None:
            self._interval = _FIRST_PAUSE
            return self._lines.take(text)
        if (yield from self._state()).is_terminal:
            return (yield from self._rest())
        yield from pause(self._interval)
        self._interval = min(self._interval * _GROWTH, _LONGEST_PAUSE)
        return []

    def _state(self) -> Flow[JobStatus]:
        """The master's word, unless the runtime's record has disproved it."""
        states = {self._ref.full_id: (yield from ask(calls.job_status(self._ref.job_id)))}
        if self._pulse is None:
            self._pulse = Pulse(self._session, {self._ref: ()}, (yield from now()))
        yield from self._pulse.prove(states)
        yield from self._pulse.look(states)
        return states[self._ref.full_id]

    def _new_text(self) -> Flow[str | None]:
        """What was printed since the last look, or ``None``."""
        if self._ref.nonce and self._at_master is None:
            self._at_master = yield from _is_at_master(self._session, self._ref)
            self._log = MasterLog(self._session, self._ref.job_id, self._log.position, self._ref.nonce)
            if self._at_master is None:
                return None  # it has not started: nothing is written before its record
        if not self._ref.nonce or self._at_master:
            return (yield from self._log.more()) or None
        text = yield from _chunk(self._ref, self._chunks)
        self._chunks += text is not None
        return text

    def _rest(self) -> Flow[list[str]]:
        """What came between the last look and the end, and the line that no line end closes."""
        if not self._ref.nonce:
            yield from self._log.settle()
        lines: list[str] = []
        while (text := (yield from self._new_text())) is not None:
            lines += self._lines.take(text)
        if self._ref.nonce and not self._at_master and not self._chunks:
            # The runtime never came to print anything; what its stub said is in the master's log.
            lines += self._lines.take((yield from ask(calls.get_logs(self._ref.job_id))))
        self.done = True
        return lines + self._lines.rest()
