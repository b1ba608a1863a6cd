"""A client of Titan's HTTP dashboard (protocol section 11). The dashboard has no authentication.

With ``ClientConfig.dashboard_url`` every submit reports itself there, so that the dashboard can group a DAG's jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from titan_sdk.config import parse_url
from titan_sdk.errors import (
    ConnectFailed,
    NotFound,
    PeerProtocolError,
    RequestRefused,
    TimedOut,
    TitanError,
)
from titan_sdk.model.gates import PendingApproval, gate_of
from titan_sdk.model.rules import GATE_PREFIX, full_id

__all__ = ["Dashboard", "DashboardDag", "DashboardJob", "report_submission"]

_log = logging.getLogger(__name__)
_REPORT_TIMEOUT = 2.0
"""Seconds for which a submit waits for the dashboard."""


@dataclass(frozen=True, slots=True)
class DashboardJob:
    """A job as the dashboard shows it: WAITING, RUNNING, COMPLETED, FAILED (also for DEAD) or CANCELLED."""

    job_id: str
    status: str
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class DashboardDag:
    """A DAG as the dashboard shows it. Only a hint: it is derived from the last ten jobs of each worker."""

    name: str
    status: str
    jobs: tuple[DashboardJob, ...]


class Dashboard:
    """A dashboard at a URL such as ``http://titan:5000``. Every method is one HTTP request.

    Args:
        timeout: seconds to connect, and seconds without an answer.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self.url = parse_url(url, "dashboard")
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<Dashboard {self.url}>"

    def sync_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Merge entries into the dashboard's manifest; the newest wins, key by key. Idempotent."""
        self._json("POST", "/api/manifest/sync", dict(manifest))

    def dag_status(self) -> list[DashboardDag]:
        """Every DAG the dashboard knows."""
        found = self._json("GET", "/api/dag_status")
        try:
            return [
                DashboardDag(
                    dag["name"],
                    dag["status"],
                    tuple(DashboardJob(j["id"], j["status"], j.get("worker")) for j in dag["jobs"]),
                )
                for dag in found
            ]
        except (KeyError, TypeError, AttributeError) as exc:
            raise self._unreadable("/api/dag_status", found) from exc

    def logs(self, job_id: str) -> str:
        """The job's log on the master, or the dashboard's own sentence if there is none."""
        return str(self._ask("GET", f"/api/logs_raw/{_part(full_id(job_id))}").text)

    def cancel_job(self, job_id: str) -> None:
        """Cancel a job.

        Raises:
            NotFound: the master said NOT_FOUND. On a real master the cancel may have worked all the same; ask the status.
        """
        self._json("POST", f"/api/job/{_part(full_id(job_id))}/cancel")

    def cancel_dag(self, name: str) -> list[str]:
        """Cancel the unfinished jobs of a DAG. Returns the full ids of the cancelled ones.

        Raises:
            NotFound: the dashboard has no DAG of that name.
        """
        found = self._json("POST", f"/api/dag/{_part(full_id(name))}/cancel")
        return [str(job_id) for job_id in found.get("cancelled", [])]

    def pending_approvals(self) -> list[PendingApproval]:
        """The gates that wait for a decision."""
        found = self._json("GET", "/api/hitl/pending")
        try:
            return [
                PendingApproval(
                    gate["job_id"],
                    gate["job_id"].removeprefix(GATE_PREFIX),
                    str(gate["message"]),
                    gate["ts"] / 1000 if gate.get("ts") else None,
                )
                for gate in found
            ]
        except (KeyError, TypeError, AttributeError) as exc:
            raise self._unreadable("/api/hitl/pending", found) from exc

    def approve(self, gate_or_job_id: str) -> None:
        """Approve a gate. The dashboard accepts any id; ``TitanClient.approve`` refuses a gate that is not waiting."""
        self._json("POST", f"/api/hitl/approve/{_part(gate_of(gate_or_job_id))}")

    def reject(self, gate_or_job_id: str) -> None:
        """Reject a gate; see ``approve``."""
        self._json("POST", f"/api/hitl/reject/{_part(gate_of(gate_or_job_id))}")

    def _json(self, method: str, path: str, body: object = None) -> Any:
        reply = self._ask(method, path, body)
        try:
            return reply.json()
        except ValueError as exc:
            raise self._unreadable(path, reply.text) from exc

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        import requests

        operation = f"{method} {self.url}{path}"
        try:
            reply = requests.request(method, self.url + path, json=body, timeout=self._timeout)
        except requests.exceptions.Timeout as exc:
            raise TimedOut(
                f"{operation}: no answer within {self._timeout:g} s", address=self.url, operation=operation
            ) from exc
        except requests.exceptions.RequestException as exc:
            raise ConnectFailed(
                f"{operation}: no answer ({exc}); is Titan's dashboard running there?",
                address=self.url,
                operation=operation,
            ) from exc
        if reply.ok:
            return reply
        detail = reply.text[:500]
        kind = NotFound if reply.status_code == 404 else RequestRefused
        raise kind(f"{operation}: HTTP {reply.status_code}: {detail.strip()}", detail=detail)

    def _unreadable(self, path: str, found: object) -> PeerProtocolError:
        return PeerProtocolError(
            f"{self.url}{path} answered {str(found)[:200]!r}, which is not what Titan's dashboard answers"
        )


def _part(text: str) -> str:
    return quote(text, safe="")


def report_submission(url: str, manifest: Mapping[str, Any]) -> None:
    """Report a submission to the dashboard. Never raises: the jobs do not depend on the dashboard."""
    try:
        Dashboard(url, timeout=_REPORT_TIMEOUT).sync_manifest(manifest)
    except TitanError as exc:
        _log.warning("the DAG was submitted, but the dashboard was not told of it: %s", exc)
