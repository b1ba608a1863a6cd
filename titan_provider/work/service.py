"""What it takes to bring a service up and to be sure that it is gone, on a real master too.

A real master says COMPLETED when the service's port answers and never changes that again, cancels a service without
ending it, and cannot stop one that is still starting or never came up. So being alive is read from the workers' lists, and a stop is
tried until it is answered.
"""

from __future__ import annotations

import time

from titan_provider.exceptions import TitanServiceFailed
from titan_provider.work.cancel import Killer
from titan_provider.work.joblog import Logger
from titan_provider.work.own_client import statuses_after
from titan_provider.work.waiting import Pace, Patience
from titan_provider.work.watch import REASON_EVERY, tell_wait
from titan_sdk import JobStatus, NotFound, NotSupported, TitanClient, TitanError, TransportError, WaitTimedOut

__all__ = ["ServiceKiller", "end_service", "is_alive", "wait_until_up"]

_AGAIN = 0.5


def is_alive(client: TitanClient, service_id: str) -> bool:
    """Whether the service runs, or may yet start."""
    if client.get_job_status(service_id) in (JobStatus.PENDING, JobStatus.RUNNING):
        return True
    full_id = "DAG-" + service_id.removeprefix("DAG-")
    return any(full_id in worker.services for worker in client.cluster_stats().workers)


def end_service(client: TitanClient, service_id: str, patience: float) -> bool:
    """Stop the service wherever it is in its life.

    :param patience: seconds to wait for one that is starting and cannot be stopped yet
    :return: whether there was anything to stop
    :raises WaitTimedOut: it is still starting
    :raises NotSupported: it never came up, and its master has forgotten its process
    """
    deadline = time.monotonic() + patience
    while True:
        status = client.get_job_status(service_id)
        if status is JobStatus.UNKNOWN:
            return False
        if status is JobStatus.PENDING and client.cancel_job(service_id) is JobStatus.CANCELLED:
            # It may have been on its way to a worker in that moment; the next look tells.
            status = JobStatus.CANCELLED
        try:
            client.stop_service(service_id)
        except NotFound:
            if status is JobStatus.DEAD and client.server_info().kind != "bundled":
                raise NotSupported(
                    f"service {service_id!r} was given up by its master, a real Titan, because its port did not answer "
                    "within 20 s, and cannot be stopped any more; end its process on the worker's machine"
                ) from None
            if status is not JobStatus.RUNNING:
                return status is JobStatus.CANCELLED
        else:
            return True
        if time.monotonic() >= deadline:
            raise WaitTimedOut(
                f"service {service_id!r} has been starting for {patience:g} s, and its master cannot stop it until "
                "its port answers; call TitanClient.stop_service later, or end the process at the worker"
            )
        time.sleep(_AGAIN)


def wait_until_up(
    client: TitanClient,
    service_id: str,
    log: Logger,
    *,
    requirement: str,
    start_timeout: float,
    poll_interval: float,
    unreachable_timeout: float,
) -> None:
    """Return when the service's port answers.

    :raises TitanServiceFailed: it died, was stopped, or took too long
    :raises TitanMasterUnreachable: the master was silent for too long
    """
    deadline = time.monotonic() + start_timeout
    patience = Patience(unreachable_timeout)
    reason, reason_at = "", float("-inf")
    pace, pause = Pace(poll_interval), 0.0
    while True:
        try:
            status = statuses_after(client, pause, [service_id])[service_id]
            if status is JobStatus.UNKNOWN:
                raise NotFound(f"the master does not know the service {service_id!r}")
            if status is JobStatus.COMPLETED:
                return
            if status.is_terminal:
                raise TitanServiceFailed(_obituary(client, service_id, status))
            if status is JobStatus.PENDING and time.monotonic() - reason_at >= REASON_EVERY:
                stats = client.cluster_stats()
                reason = tell_wait(log, f"service {service_id}", stats, requirement, reason)
                reason_at = time.monotonic()
            patience.succeeded()
            pause = pace.next()
        except (TransportError, NotFound) as exc:
            away = patience.failed(exc)
            if patience.is_first_failure:
                log.warning("The state of service %s is not known; asking again: %s", service_id, exc)
            time.sleep(min(away, max(deadline - time.monotonic(), 0.0)))
            status, pause = JobStatus.UNKNOWN, 0.0
        if time.monotonic() >= deadline:
            why = f": {reason}" if status is JobStatus.PENDING else ""
            raise TitanServiceFailed(
                f"service {service_id!r} is {status} {start_timeout:g} s after its start{why}; raise start_timeout, or "
                "let it listen on its port"
            )
        pause = min(pause, max(deadline - time.monotonic(), 0.0))


def _obituary(client: TitanClient, service_id: str, status: JobStatus) -> str:
    try:
        tail = "\n".join(client.fetch_logs(service_id).splitlines()[-20:])
    except TitanError:
        tail = ""
    return f"service {service_id!r} is {status}, its port never answered" + (f":\n{tail}" if tail else "")


class ServiceKiller(Killer):
    """Stops a task's service inside Airflow's signal handler; the rules are those of :class:`Killer`."""

    def kill(self, log: Logger) -> None:
        """Stop the service, if one was submitted or may be at any moment."""
        self.killed = True
        if (client := self._client) is None:
            return
        for service_id in self.job_ids:
            try:
                end_service(client, service_id, patience=1.5)
            except TitanError as exc:
                log.warning("Service %s could not be stopped and may still be running: %s", service_id, exc)
            else:
                log.info("Stopped service %s", service_id)
