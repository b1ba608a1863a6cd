"""Bytes that are held in memory for all peers together."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Budget"]


class Budget:
    """So many bytes may be held; a request for more than is left waits its turn.

    Nobody asks for a second share while holding one, and each is held for a limited time: every turn comes.
    """

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._limit = limit
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Hold ``size`` bytes until ``give``, in the order of asking. More than the whole budget has one peer at a time."""
        if not self._queue and self._has_room(size):
            self.held += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((size, turn))
        await turn

    def give(self, size: int) -> None:
        """They are free again."""
        self.held -= size
        while self._queue and self._has_room(self._queue[0][0]):
            size, turn = self._queue.popleft()
            if not turn.cancelled():
                self.held += size
                turn.set_result(None)

    def _has_room(self, size: int) -> bool:
        return not self.held or self.held + size <= self._limit
