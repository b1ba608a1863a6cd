"""Logs: the master's log if the master keeps it whole, else the runtime's numbered chunks (section 8.3).

A job's record says where its output is: a launcher writes no chunks if the master keeps the log.
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
"""The shortest time between two versions of a line that the job rewrites, in seconds."""


def fetch_logs(session: Session, ref: JobRef) -> Flow[str]:
    """The output of the job so far.

    It is complete and in order for a job with the runtime. For other jobs it is the master's log: a real master keeps
    the last 100 lines of all runs of the id, not always in order.
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
    """Whether the job's output is in the master's log; ``None`` while there is no record."""
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
    """The output from ``position`` on, without waiting."""
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
    """Follows a job's output over all its attempts; each line comes once. For one thread at a time.

    ``position`` may be stored and given back later, to go on without a gap or a repetition. It is exact for jobs with
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
        """The number of chunks read so far, or the position in the master's log."""
        return self._chunks if self._ref.nonce and not self._at_master else self._log.position

    def read(self) -> Flow[list[LogLine]]:
        """The new lines, and at most once a second the current text of a line that the job rewrites
        (``LogLine.is_final`` is false). Pauses briefly if there are none. Outlasts a master that is away for a while.
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
        """The master's state, unless the runtime's record disproves it."""
        states = {self._ref.full_id: (yield from ask(calls.job_status(self._ref.job_id)))}
        if self._pulse is None:
            self._pulse = Pulse(self._session, {self._ref: ()}, (yield from now()))
        yield from self._pulse.prove(states)
        yield from self._pulse.look(states)
        return states[self._ref.full_id]

    def _new_text(self) -> Flow[str | None]:
        """The output since the last read, or ``None``."""
        if self._ref.nonce and self._at_master is None:
            self._at_master = yield from _is_at_master(self._session, self._ref)
            self._log = MasterLog(self._session, self._ref.job_id, self._log.position, self._ref.nonce)
            if self._at_master is None:
                return None  # not started: the record comes before the first output
        if not self._ref.nonce or self._at_master:
            return (yield from self._log.more()) or None
        text = yield from _chunk(self._ref, self._chunks)
        self._chunks += text is not None
        return text

    def _rest(self) -> Flow[list[str]]:
        """The output between the last read and the end, including an unterminated last line."""
        if not self._ref.nonce:
            yield from self._log.settle()
        lines: list[str] = []
        while (text := (yield from self._new_text())) is not None:
            lines += self._lines.take(text)
        if self._ref.nonce and not self._at_master and not self._chunks:
            # The runtime has printed nothing. The stub's own lines are in the master's log.
            lines += self._lines.take((yield from ask(calls.get_logs(self._ref.job_id))))
        self.done = True
        return lines + self._lines.rest()
