"""Copying a job's log into a task log: whole lines, each once, in order, across pages, processes and restarts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Protocol

from titan_sdk import LogPage

__all__ = ["MAX_LINES", "JobLog", "LogCursor", "Logger"]

MAX_LINES = 100_000
"""Lines of one job that are copied: a job that prints without end must not fill Airflow's disk."""

_LONGEST_LINE = 64 * 1024


class Logger(Protocol):
    """What Airflow's operators, triggers and the standard library have in common."""

    def info(self, event: str, /, *args: object) -> object: ...

    def warning(self, event: str, /, *args: object) -> object: ...


@dataclass(frozen=True, slots=True)
class LogCursor:
    """How far a log has been copied; may be stored and given to another process."""

    position: int = 0
    """Where the next page begins, in the SDK's terms."""
    lines: int = 0
    """Lines copied so far."""
    carry: str = ""
    """The beginning of a line whose end had not been printed yet."""

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
    """

    def __init__(self, log: Logger, cursor: LogCursor | None = None) -> None:
        self._log = log
        self.cursor = cursor or LogCursor()

    def take(self, page: LogPage) -> bool:
        """Copy a page.

        :return: whether there may be another one right now
        """
        if page.position == self.cursor.position:
            return False
        *lines, carry = (self.cursor.carry + page.text).split("\n")
        if len(carry) > _LONGEST_LINE:
            lines, carry = [*lines, carry], ""
        self._write(lines)
        self.cursor = LogCursor(page.position, self.cursor.lines + len(lines), carry)
        return True

    def finish(self) -> None:
        """The job is over and all pages are taken: copy a last line that no line end closed."""
        if self.cursor.carry:
            self._write([self.cursor.carry])
            self.cursor = LogCursor(self.cursor.position, self.cursor.lines + 1)

    def _write(self, lines: list[str]) -> None:
        room = MAX_LINES - self.cursor.lines
        for line in lines[: max(room, 0)]:
            self._log.info("%s", line)
        if 0 <= room < len(lines):
            self._log.warning("The job has printed more than %s lines; the rest is not copied", MAX_LINES)
