"""Logs: the runtime's numbered chunks where there are any, else the master's log as it is (section 8.3)."""

from __future__ import annotations

from titan_sdk.flows.core import Flow, ask, pause
from titan_sdk.flows.report import JobRef, read_run_state, resolve_nonce
from titan_sdk.model.report import LogPage
from titan_sdk.runtime import keys, reader
from titan_sdk.wire import calls

__all__ = ["LogFollower", "fetch_logs", "read_logs"]

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_GROWTH = 1.5
_LATE_LINES = 2.5
"""Seconds after the end in which a real worker may still deliver lines (section 8.3)."""


def fetch_logs(ref: JobRef) -> Flow[str]:
    """Everything the job has printed so far.

    Complete and in order where the runtime travelled with the job. Otherwise what the master has: a real one
    keeps the last 100 lines, not always in order, of all runs of the id.
    """
    ref = yield from resolve_nonce(ref)
    parts: list[str] = []
    while (text := (yield from _chunk(ref, len(parts)))) is not None:
        parts.append(text)
    return "".join(parts) if parts else (yield from ask(calls.get_logs(ref.job_id)))


def _chunk(ref: JobRef, index: int) -> Flow[str | None]:
    if not ref.nonce:
        return None
    text = yield from ask(calls.kv_get(keys.log_key(ref.full_id, ref.nonce, index)))
    return None if text is None else reader.parse_log_chunk(text).text


def read_logs(ref: JobRef, position: int = 0, *, chunks: int = 64) -> Flow[LogPage]:
    """What was printed from ``position`` on, without waiting."""
    ref = yield from resolve_nonce(ref)
    if not ref.nonce:
        text = yield from ask(calls.get_logs(ref.job_id))
        return LogPage(text[position:], max(position, len(text)))
    parts: list[str] = []
    while len(parts) < chunks and (part := (yield from _chunk(ref, position + len(parts)))) is not None:
        parts.append(part)
    return LogPage("".join(parts), position + len(parts))


class LogFollower:
    """Hands out a job's output as it comes, each line once. Not for two threads at a time.

    ``position`` may be stored and given back later to go on without a gap or a repeat; it is exact for jobs with
    the runtime. Loop: ``lines = yield from follower.read(); ...; if follower.done: stop``.
    """

    def __init__(self, ref: JobRef, *, position: int = 0) -> None:
        self._ref = ref
        self.position = position
        """Chunks consumed so far (characters of the master's log where no runtime travels)."""
        self.done = False
        self._carry = ""
        self._seen = ""
        self._interval = _FIRST_PAUSE

    def read(self, *, wait: bool = True) -> Flow[list[str]]:
        """New complete lines, without their line ends; pauses briefly when there are none.

        Args:
            wait: false returns at once when there is nothing new.
        """
        self._ref = yield from resolve_nonce(self._ref)
        text = yield from self._new_text()
        lines = self._cut(text) if text else []
        if text is None:
            ended = yield from self._ended()
            if ended:
                lines = yield from self._rest()
            elif wait:
                yield from pause(self._interval)
                self._interval = min(self._interval * _GROWTH, _LONGEST_PAUSE)
        else:
            self._interval = _FIRST_PAUSE
        return lines

    def _new_text(self) -> Flow[str | None]:
        """What was printed since the last look, or ``None``."""
        if self._ref.nonce:
            text = yield from _chunk(self._ref, self.position)
            self.position += text is not None
            return text
        return self._unseen((yield from ask(calls.get_logs(self._ref.job_id)))) or None

    def _ended(self) -> Flow[bool]:
        state = yield from read_run_state(self._ref)
        if state is not None and state.ended:
            return self.position >= (state.log_chunks or 0)
        return (yield from ask(calls.job_status(self._ref.job_id))).is_terminal

    def _rest(self) -> Flow[list[str]]:
        """What came between the last look and the end, and the line that no line end closes."""
        if not self._ref.nonce and (self._carry or not self._seen):
            # A complete last line means that nothing is under way.
            yield from pause(_LATE_LINES)
        lines: list[str] = []
        while (text := (yield from self._new_text())) is not None:
            lines += self._cut(text)
        if self._ref.nonce and not self.position:
            # The runtime never came to print anything; what its stub said is in the master's log.
            lines += self._cut((yield from ask(calls.get_logs(self._ref.job_id))))
        if self._carry:
            lines.append(self._carry)
            self._carry = ""
        self.done = True
        return lines

    def _cut(self, text: str) -> list[str]:
        *lines, self._carry = (self._carry + text).split("\n")
        return lines

    def _unseen(self, text: str) -> str:
        """The part of the master's log that was not there at the last look; the log may have lost its beginning."""
        old, self._seen = self._seen, text
        if not old and self.position:
            return text[self.position :]
        if text.startswith(old):
            fresh = text[len(old) :]
        else:
            overlap = next(
                (n for n in range(min(len(old), len(text)), 0, -1) if text.startswith(old[-n:])), 0
            )
            fresh = text[overlap:]
        self.position += len(fresh)
        return fresh
