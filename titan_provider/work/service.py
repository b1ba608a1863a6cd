"""A service on a worker: its start, the wait for its port, and its certain end; on a real master too.

A real master says COMPLETED when the service's port answers, and never changes that again. It cancels a service without
ending it, and cannot stop one that is still starting or never came up. So the workers' lists tell whether a service is
alive, and a stop is tried until it is answered.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from titan_provider.exceptions import TitanServiceFailed
from titan_provider.work.joblog import Logger
from titan_provider.work.plan import ONLY, KnownJob, WorkRecord
from titan_provider.work.remote import RemoteWork
from titan_provider.work.waiting import Master
from titan_provider.work.watch import WorkWatch, why_waiting
from titan_sdk import JobStatus, NotFound, NotSupported, TitanClient, TitanError, WaitTimedOut

__all__ = [
    "END_PATIENCE",
    "RemoteService",
    "ServiceWatch",
    "end_service",
    "is_alive",
    "raise_unless_up",
    "stop_in_a_hurry",
]

END_PATIENCE = 30.0
"""Seconds. The real master gives a service 20 s for its port; one that is starting cannot be stopped there until then."""

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


class RemoteService(RemoteWork):
    """A service: it is alive as the workers say, and stopped rather than cancelled."""

    kind = "service"
    has_nonces = False

    def _settled_statuses(self, client: TitanClient, old: WorkRecord) -> dict[str, JobStatus]:
        return {
            name: JobStatus.RUNNING if is_alive(client, job.job_id) else JobStatus.DEAD
            for name, job in old.jobs.items()
        }

    def _end(self, client: TitanClient, going: Sequence[KnownJob], jobs: Mapping[str, KnownJob]) -> None:  # noqa: ARG002 - the rest is dead
        for job in going:
            words = "Service %s of an earlier run of this task is still there; ending it"
            self._log.warning(words, job.job_id)
            end_service(client, job.job_id, END_PATIENCE)


class ServiceWatch(WorkWatch):
    """The wait until a service's port answers. Its log is not copied: the stop does that.

    :param start_timeout: seconds until it must have answered, the wait for a worker included
    """

    def __init__(self, service: KnownJob, log: Logger, *, start_timeout: float, **options: Any) -> None:
        super().__init__({ONLY: service}, log, **options)
        self._service = service
        self._start_timeout = start_timeout
        self._deadline = time.time() + start_timeout

    def _title(self, name: str) -> str:  # noqa: ARG002 - there is one
        return f"service {self._service.job_id}"

    async def _copy_logs(self, master: Master) -> bool:  # noqa: ARG002 - as WorkWatch has it
        return False

    async def _until_too_late(self, master: Master, waiting: list[str]) -> float:
        left = self._deadline - time.time()
        if left > 0:
            return left
        why = ""
        if waiting:
            stats = await master.stats(self._unreachable_timeout)
            why = f": {why_waiting(stats, self._service.requirement)}"
        raise TitanServiceFailed(
            f"service {self._service.job_id!r} is {self.statuses[ONLY]} {self._start_timeout:g} s after its start{why}; "
            "raise start_timeout, or let it listen on its port"
        )


def raise_unless_up(client: TitanClient, service_id: str, status: JobStatus) -> None:
    """Return where the service's port answers, as its status says.

    :raises TitanServiceFailed: it died or was stopped
    """
    if status.is_success:
        return
    try:
        tail = "\n".join(client.fetch_logs(service_id).splitlines()[-20:])
    except TitanError:
        tail = ""
    raise TitanServiceFailed(
        f"service {service_id!r} is {status}, its port never answered" + (f":\n{tail}" if tail else "")
    )


def stop_in_a_hurry(client: TitanClient, service_id: str) -> JobStatus:
    """Stop a service inside a signal handler."""
    end_service(client, service_id, patience=1.5)
    return JobStatus.CANCELLED
