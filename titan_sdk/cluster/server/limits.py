"""Limits of the server: the bytes in memory for all peers together, and the number of connections."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import deque

from titan_sdk.cluster.settings import ClusterSettings

__all__ = ["ByteBudget", "connection_limit"]


log = logging.getLogger(__name__)

_OWN = 128
"""Descriptors for the master's own files, sockets and pipes, and for connections that are being accepted or closed."""
_PER_SLOT = 4


class ByteBudget:
    """A budget of bytes. A request for more than is left waits its turn.

    No peer asks for a second share while it holds one, and each share is held for a limited time, so every turn comes.
    """

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._limit = limit
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Take ``size`` bytes, in the order of asking. One peer at a time may take more than the whole budget."""
        if not self._queue and self._has_room(size):
            self.held += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((size, turn))
        await turn

    def give(self, size: int) -> None:
        """Give ``size`` bytes back."""
        self.held -= size
        while self._queue and self._has_room(self._queue[0][0]):
            size, turn = self._queue.popleft()
            if not turn.cancelled():
                self.held += size
                turn.set_result(None)

    def _has_room(self, size: int) -> bool:
        return not self.held or self.held + size <= self._limit


def connection_limit(settings: ClusterSettings) -> int:
    """``max_connections``, or less if the limit of open files is too low; then a log line says so."""
    wanted, (limit, _) = settings.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)
    own = _OWN + _PER_SLOT * settings.slots * len(settings.worker_specs())
    if limit == resource.RLIM_INFINITY or limit >= wanted + own:
        return wanted
    # With very few descriptors, half of them are for connections.
    allowed = max(limit - own, limit // 2)
    if allowed >= wanted:
        return wanted
    log.warning(
        "this process may open %d files, so it takes %d connections and not %d; raise the limit to %d (ulimit -n %d)",
        *(limit, allowed, wanted, wanted + own, wanted + own),
    )
    return allowed
