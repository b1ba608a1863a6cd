"""Which jobs have changed, told by numbers that count up: each job once, in the order of the latest changes.

In memory only, so it costs a commit next to nothing. A master has a mark of its own in front of its numbers: a client
that comes with another one's, or with one that is too old, is told to look at everything again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile

__all__ = ["Feed"]

_KEPT = 50_000
"""Jobs whose latest change is known."""


class Feed:
    """Told of each commit; asked with the number of the last change that somebody knows."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._mark = secrets.token_hex(8)
        self._kept = kept
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._number = 0
        self._forgotten = 0
        """The highest number of a change that is not known any more."""
        self._events: set[asyncio.Event] = set()

    def note(self, job_ids: Iterable[str]) -> None:
        """These jobs have changed, and that is durable."""
        before = self._number
        for job_id in job_ids:
            self._number += 1
            self._latest[job_id] = self._number
            self._latest.move_to_end(job_id)
        while len(self._latest) > self._kept:
            self._forgotten = self._latest.popitem(last=False)[1]
        if self._number > before:
            for event in self._events:
                event.set()

    def cursor(self, number: int | None = None) -> str:
        """A place between changes; by default behind the last one."""
        return f"{self._mark}-{self._number if number is None else number}"

    def number(self, cursor: str | None) -> int | None:
        """The number in a cursor; ``None`` if not everything since is known."""
        mark, _, text = (cursor or "").partition("-")
        if mark != self._mark or not (text.isascii() and text.isdigit()) or len(text) > 18:
            return None
        return int(text) if self._forgotten <= int(text) <= self._number else None

    def since(self, number: int, limit: int) -> tuple[list[str], int]:
        """The jobs that have changed since, the longest unchanged first, and the number of the last one's change."""
        newer = list(takewhile(lambda item: item[1] > number, reversed(self._latest.items())))[::-1][:limit]
        return [job_id for job_id, _ in newer], newer[-1][1] if newer else number

    @contextmanager
    def waking(self, event: asyncio.Event) -> Iterator[None]:
        """The event is set with the next change."""
        self._events.add(event)
        try:
            yield
        finally:
            self._events.discard(event)
