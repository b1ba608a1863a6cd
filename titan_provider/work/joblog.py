"""Copying a job's log into a task log: whole lines, each once, in order, across pages, processes and restarts.

A copier that is killed between writing lines and remembering that it did would repeat them. So it remembers what it is
*about to* write (:meth:`JobLog.begin`), with the times the lines will carry. The next copier writes the very same
records again, and Airflow 3, which merges the log files of all triggerers by time and drops equal neighbours, shows
them once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from titan_provider.compat import amask_secret, mask_secret
from titan_sdk import LogLines, LogPage

__all__ = ["MAX_LINES", "JobLog", "LogCursor", "Logger", "amask_env", "env_texts", "mask_env"]

MAX_LINES = 100_000
"""Lines of one job that are copied: a job that prints without end must not fill Airflow's disk."""

_LONGEST_LINE = 64 * 1024
_STATE_EVERY = 10.0
"""Seconds between two states of a line that the job rewrites."""
_SPREAD = 1.0
"""Seconds over which the times of a first page's lines are spread, backwards."""


class Logger(Protocol):
    """The part that the loggers of operators, of triggers and of the standard library share."""

    def info(self, event: Any, *args: Any, **kw: Any) -> Any: ...

    def warning(self, event: Any, *args: Any, **kw: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class LogCursor:
    """A position in a log; may be stored and given to another process."""

    position: int = 0
    """The beginning of the next page, in the SDK's terms."""
    lines: int = 0
    """Lines copied so far."""
    carry: str = ""
    """The beginning of a line whose end had not been printed yet."""
    dated: float = 0.0
    """Unix time that the last copied line carries; 0 where the logger gives lines their times."""
    ahead: int = 0
    """The end of the page that is being copied, if one is."""
    until: float = 0.0
    """Unix time that its last line carries."""
    state: str = ""
    """The last copied state of a line that the job rewrites, such as a progress bar."""
    state_at: float = 0.0
    """Unix time of that."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The job's environment, whose secrets every copier masks. No more than the job's own payload on the master."""

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str | None) -> LogCursor | None:
        """The cursor behind :meth:`to_text`, or None where there is none."""
        return cls(**json.loads(text)) if text else None


class JobLog:
    """The copy of one job's log.

    :param log: gets each line as one record
    :param cursor: where an earlier copy stopped
    :param dated: whether ``log`` takes a line's time as ``timestamp=``
    :param group: title of a foldable group around the lines of each page; empty: no groups
    """

    def __init__(
        self, log: Logger, cursor: LogCursor | None = None, *, dated: bool = False, group: str = ""
    ) -> None:
        self._log = log
        self._dated = dated
        self._group = group
        self.cursor = cursor or LogCursor()

    @property
    def is_full(self) -> bool:
        """No further line is copied, so none has to be read."""
        return self.cursor.lines > MAX_LINES

    @property
    def interrupted(self) -> int | None:
        """The end of a page in the middle of which another copier ended, if one did. That page must be taken first."""
        return self.cursor.ahead if self.cursor.ahead > self.cursor.position else None

    def begin(self, page: LogPage, now: float) -> bool:
        """Announce a page; False when it holds nothing new. Store the cursor then, and :meth:`take` the page.

        :param now: unix time
        """
        if page.position == self.cursor.position:
            return False
        self.cursor = replace(self.cursor, ahead=page.position, until=max(now, self.cursor.dated + 0.001))
        return True

    def take(self, page: LogPage, *, last: bool = False) -> bool:
        """Copy a page. A line that the job rewrites is copied every ten seconds as it looks then, and at its end.

        :param last: nothing follows the page, so a line without an end is whole
        :return: whether there may be another one right now
        """
        if page.position == self.cursor.position:
            return False
        cut = LogLines(self.cursor.carry)
        lines = cut.take(page.text)
        if last or len(cut.carry) > _LONGEST_LINE:
            lines += cut.rest()
        # Announced with the page, so that a copier that does it again tells the same states.
        moment = self.cursor.until or time.time()
        state, state_at = self.cursor.state, self.cursor.state_at
        if cut.state and cut.state != state and moment - state_at >= _STATE_EVERY:
            state, state_at = cut.state, moment
            lines.append(state)
        copied = self.cursor.lines + self._write(lines)
        dated = self.cursor.until if lines else self.cursor.dated
        self.cursor = LogCursor(
            page.position, copied, cut.carry, dated, state=state, state_at=state_at, env=self.cursor.env
        )
        return True

    def finish(self) -> None:
        """The job is over and all pages are taken: copy a last line that no line end closed."""
        lines = LogLines(self.cursor.carry).rest()
        self.cursor = replace(self.cursor, lines=self.cursor.lines + self._write(lines), carry="")

    def _write(self, lines: list[str]) -> int:
        """Write the lines; their number."""
        if self._group and lines:
            lines = [f"::group::{self._group}", *lines, "::endgroup::"]
        room = MAX_LINES - self.cursor.lines
        times = self._times(len(lines))
        for index, line in enumerate(lines[: max(room, 0)]):
            if times is None:
                self._log.info("%s", line)
            else:
                self._log.info("%s", line, timestamp=_iso(times[0] + times[1] * (index + 1)))
        if 0 <= room < len(lines):
            self._log.warning("The job has printed more than %s lines; the rest is not copied", MAX_LINES)
        return len(lines)

    def _times(self, count: int) -> tuple[float, float] | None:
        """Start and step of the lines' times. Distinct, or Airflow would take equal lines for one."""
        if not self._dated or not self.cursor.until or not count:
            return None
        start = self.cursor.dated or self.cursor.until - _SPREAD
        return start, (self.cursor.until - start) / count


def _iso(at: float) -> str:
    """As Airflow writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def env_texts(env: Any) -> dict[str, str]:
    """The variables as the job will see them; none where ``env`` is nothing that a job could be given.

    :param env: a job's environment, as its author wrote it
    """
    if not isinstance(env, Mapping):
        return {}
    return {
        str(name): str.__str__(value) if isinstance(value, str) else str(value) for name, value in env.items()
    }


def mask_env(env: Any) -> None:
    """Mask the values whose names Airflow takes for a secret's, from now on, in this process's logs.

    :param env: environment variables of a job
    """
    for name, value in env_texts(env).items():
        mask_secret(value, name)


async def amask_env(env: Any) -> None:
    """As :func:`mask_env`, for the triggerer, whose event loop must not wait for Airflow's answer.

    :param env: environment variables of a job
    """
    for name, value in env_texts(env).items():
        await amask_secret(value, name)
