"""Questions about the master itself."""

from __future__ import annotations

from titan_sdk.errors import NotSupported, PeerProtocolError
from titan_sdk.flows.core import Flow, ask, pause
from titan_sdk.model.report import JobDetails
from titan_sdk.model.server import ServerInfo
from titan_sdk.model.stats import ClusterStats
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls

__all__ = ["cluster_stats", "job_details", "require", "server_info"]

_STATS_TRIES = 3


def server_info(session: Session) -> Flow[ServerInfo]:
    """The kind and features of the master. A client asks once."""
    if session.server is None:
        session.server = yield from ask(calls.server_info(session.config.auth_token))
    return session.server


def require(session: Session, feature: str, operation: str, instead: str) -> Flow[None]:
    """Check that the master has the feature.

    Raises:
        NotSupported: it does not; the sentence names an alternative.
    """
    info = yield from server_info(session)
    if feature not in info.features:
        raise NotSupported(
            f"{operation}: the {info} at {session.config.address} has no such operation; {instead}"
        )


def job_details(session: Session, job_id: str) -> Flow[JobDetails]:
    """The bundled master's details of a job.

    Raises:
        NotSupported: the master is a real one.
        NotFound: it does not know the job.
    """
    yield from require(
        session, "job_info", "job_details", "ask job_report(), which a job's own runtime fills"
    )
    return (yield from ask(extended_calls.job_info(job_id)))


def cluster_stats() -> Flow[ClusterStats]:
    """Workers and queue. Broken JSON, which a real master may send while a worker comes or goes, is asked for again."""
    for _ in range(_STATS_TRIES - 1):
        try:
            return (yield from ask(calls.cluster_stats()))
        except PeerProtocolError:
            yield from pause(0.2)
    return (yield from ask(calls.cluster_stats()))
