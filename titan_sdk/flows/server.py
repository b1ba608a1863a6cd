"""Questions about the master itself."""

from __future__ import annotations

from titan_sdk.errors import PeerProtocolError
from titan_sdk.flows.core import Flow, ask, pause
from titan_sdk.model.stats import ClusterStats, ServerInfo
from titan_sdk.session import Session
from titan_sdk.wire import calls

__all__ = ["cluster_stats", "server_info"]

_STATS_TRIES = 3


def server_info(session: Session) -> Flow[ServerInfo]:
    """Which master answers; asked once per client."""
    if session.server is None:
        session.server = yield from ask(calls.server_info())
    return session.server


def cluster_stats() -> Flow[ClusterStats]:
    """Workers and queue. A real master may print broken JSON while a worker comes or goes, so ask again."""
    for left in reversed(range(_STATS_TRIES)):
        try:
            return (yield from ask(calls.cluster_stats()))
        except PeerProtocolError:
            if not left:
                raise
            yield from pause(0.2)
    raise AssertionError("unreachable: the last try returns or raises")
