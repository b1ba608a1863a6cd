"""A run as the dispatcher sees it, and how it hears of ends."""

from __future__ import annotations

import asyncio
import collections
import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from titan_sdk.cluster.engines.ray.values import Began, Finished

__all__ = ["Replies", "Run"]


class Run:
    __slots__ = (
        "actor",
        "answers",
        "began",
        "chunks",
        "delivered",
        "finished",
        "killed",
        "ref",
        "sent",
        "wanted",
    )

    def __init__(self) -> None:
        self.ref: Any = None
        self.actor: Any = None
        self.began: Began | None = None
        self.answers = False
        self.chunks: collections.deque[tuple[int, bytes]] = collections.deque()
        """Output that the front has not acknowledged."""
        self.sent = 0
        """How many of the chunks are on their way to it."""
        self.finished: Finished | None = None
        self.delivered: tuple[bool, bool, bool] = (False, False, False)
        """Which of begin, answer and end were told to it."""
        self.killed = False
        self.wanted = asyncio.Event()
        """Set when the run is to be ended."""


class Replies:
    """Brings the replies of Ray's calls from its thread to the loop, many at a time: waking the loop costs as much as
    all else that is done about the end of a short job.

    Args:
        enough: whether so many are to be brought now; asked in Ray's thread.
        take: called with each, in the loop's thread.
    """

    def __init__(self, enough: Callable[[int], bool], take: Callable[[str, Run, Future[Any]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._enough, self._take = enough, take
        self._arrived: collections.deque[tuple[str, Run, Future[Any]]] = collections.deque()

    def expect(self, name: str, run: Run) -> None:
        """The reply to the call that the run is."""
        run.ref.future().add_done_callback(functools.partial(self._arrive, name, run))

    def _arrive(self, name: str, run: Run, reply: Future[Any]) -> None:
        # In this order: who asks for fewer looks for what has arrived afterwards, so none is left lying.
        self._arrived.append((name, run, reply))
        if self._enough(len(self._arrived)):
            self._loop.call_soon_threadsafe(self.bring)

    def bring(self) -> None:
        """Now."""
        while self._arrived:
            self._take(*self._arrived.popleft())
