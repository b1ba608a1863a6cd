"""The real master's logs: late, unordered, and only the last lines (section 8.3)."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from titan_sdk.strict.settings import StrictSettings

__all__ = ["Batcher", "LogBook"]

_BATCH_LINES = 200


class LogBook:
    """The lines that have reached the master."""

    def __init__(self, file_of: Callable[[str], Path], keep: int) -> None:
        self._file_of = file_of
        self._keep = keep
        self._rings: dict[str, deque[str]] = {}

    def receive(self, job_id: str, block: str) -> None:
        """Add one batch. Empty lines at its end are lost."""
        lines = block.rstrip("\n").split("\n") if block.strip("\n") or not block else []
        self.append(job_id, lines)

    def append(self, job_id: str, lines: Sequence[str]) -> None:
        if not lines:
            return
        self._rings.setdefault(job_id, deque(maxlen=self._keep)).extend(lines)
        with open(self._file_of(job_id), "a", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)

    def read(self, job_id: str) -> str:
        """The lines in memory. After a restart of the master there are none, so the whole file is read."""
        ring = self._rings.get(job_id)
        if ring:
            return "\n".join(ring)
        try:
            return self._file_of(job_id).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        except OSError:
            return "ERROR: Log file exists but unreadable"


class Batcher:
    """A worker's buffer of one process's lines. It is sent when it is full, every two seconds, and at the end.

    Each batch uses its own connection, and its reply is not awaited. Batches therefore overtake each other, and the report
    of the job's end may overtake them all.
    """

    def __init__(self, job_id: str, deliver: Callable[[str, str], None], settings: StrictSettings) -> None:
        self._job_id = job_id
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._settings = settings
        self._lines: list[str] = []
        self._timer = self._loop.call_later(settings.log_flush, self._tick)

    def add(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) >= _BATCH_LINES:
            self._flush()

    def close(self) -> None:
        """Send the rest."""
        self._timer.cancel()
        self._flush()

    def _flush(self) -> None:
        if self._lines:
            block, self._lines = "\n".join(self._lines), []
            # This delay imitates the threads that race for each batch on a real master.
            delay = random.random() * self._settings.log_jitter
            self._loop.call_later(delay, self._deliver, self._job_id, block)

    def _tick(self) -> None:
        self._flush()
        self._timer = self._loop.call_later(self._settings.log_flush, self._tick)
