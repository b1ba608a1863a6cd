"""Room for peers: bytes that are held in memory for all of them together, and connections that descriptors allow."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import deque

from titan_sdk.cluster.settings import ClusterSettings

__all__ = ["ByteBudget", "connection_limit"]


log = logging.getLogger(__name__)

_OWN = 128
"""Files, sockets and pipes of the master's own, connections included that are just being accepted or given up."""
_PER_SLOT = 4


class ByteBudget:
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


def connection_limit(settings: ClusterSettings) -> int:
    """``max_connections``, or less where the limit of open files is too low; then a line in the log says so."""
    wanted, (limit, _) = settings.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)
    own = _OWN + _PER_SLOT * settings.slots * len(settings.worker_specs())
    if limit == resource.RLIM_INFINITY or limit >= wanted + own:
        return wanted
    # Where the master itself would not have enough: as many as it has for itself.
    allowed = max(limit - own, limit // 2)
    if allowed >= wanted:
        return wanted
    log.warning(
        "this process may open %d files, so it takes %d connections and not %d; raise the limit to %d (ulimit -n %d)",
        *(limit, allowed, wanted, wanted + own, wanted + own),
    )
    return allowed
