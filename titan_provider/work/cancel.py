"""The cancellation of a task's jobs when Airflow kills the task: within the 5 s before SIGKILL."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from titan_provider.work.joblog import Logger
from titan_provider.work.waiting import OwnClient, run_blocking
from titan_sdk import (
    ClientConfig,
    JobStatus,
    NotFound,
    RetryPolicy,
    StoreUnavailable,
    TitanClient,
    TitanError,
    TransportError,
)

__all__ = ["Cancellation", "announce_try", "cancel_jobs"]

_SECONDS = 1.5
_BUDGET = 3.5


def announce_try(client: TitanClient, job_id: str, try_number: int) -> None:
    """Let earlier tries know that this one waits for their jobs now.

    A try that Airflow gave up (its host froze) is told to end when it comes back; that must not cancel the jobs.

    :param job_id: the job that was taken up; of several, the first one to cancel
    :param try_number: of the task instance that took it up
    """
    client.store_put(_key(job_id), str(try_number))


def _key(job_id: str) -> str:
    return f"titan:airflow:waiter:{job_id}"


def _cancel_job(client: Any, job_id: str) -> Any:
    return client.cancel_job(job_id)


async def cancel_jobs(
    once: Callable[[Callable[[Any], Any]], Awaitable[Any]],
    job_ids: Sequence[str],
    *,
    end: Callable[[Any, str], Any] = _cancel_job,
    budget: float = math.inf,
) -> tuple[dict[str, JobStatus], dict[str, str]]:
    """Cancel the jobs in their order. Returns states of cancelled jobs and reasons for the others, by id.

    :param once: carries out a request, as :class:`~titan_provider.work.waiting.Master` does
    :param job_ids: children first
    :param end: ends one job, by either client
    :param budget: seconds after which the rest is left alone
    """
    began, done, failed = time.monotonic(), dict[str, JobStatus](), dict[str, str]()
    for index, job_id in enumerate(job_ids):
        if time.monotonic() - began > budget:
            return done, failed | dict.fromkeys(job_ids[index:], "there was no time left")
        try:
            done[job_id] = await once(lambda client, job_id=job_id: end(client, job_id))  # type: ignore[misc]
        except NotFound as exc:
            if len(job_ids) > 1:
                done[job_id] = JobStatus.UNKNOWN  # it may depend on one that is gone
            else:
                failed[job_id] = str(exc)
        except StoreUnavailable as exc:
            failed[job_id] = str(exc)  # the master was told all the same
        except TitanError as exc:
            failed[job_id] = str(exc)
            if budget < math.inf and isinstance(exc, TransportError):  # the next one would take as long
                return done, failed | dict.fromkeys(job_ids[index:], str(exc))
    return done, failed


class Cancellation:
    """Cancels a task's jobs inside Airflow's signal handler, which is followed by SIGKILL 5 s later.

    The interrupted main thread may be anywhere, so this uses a client of its own, made before, and calls nothing of
    Airflow; even the log lines come last.

    :param end: ends one job
    :param kind: its name in the log
    """

    def __init__(self, end: Callable[[Any, str], Any] = _cancel_job, kind: str = "job") -> None:
        self.killed = False
        """Also true when the kill came before there was anything to cancel."""
        self.job_ids: tuple[str, ...] = ()
        """Ids of the jobs to cancel, children first."""
        self._end = end
        self._kind = kind
        self._client: TitanClient | None = None
        self._try_number = 0

    def connect(self, config: ClientConfig, try_number: int = 0, *, hasty: bool = True) -> None:
        """From now on a kill knows where the master is.

        :param try_number: of the task instance that may be killed
        :param hasty: whether SIGKILL follows
        """
        self._try_number = try_number
        if hasty:
            once = RetryPolicy(attempts=1)
            config = replace(config, connect_timeout=_SECONDS, timeout=_SECONDS, retry=once)
        self._client = TitanClient(config=config)

    def track(self, job_ids: Iterable[str]) -> None:
        """From now on a kill cancels these jobs: they were submitted, or may be at any moment.

        :param job_ids: children first
        """
        self.job_ids = tuple(job_ids)

    def cancel(self, log: Logger) -> None:
        """Cancel the jobs, in their order."""
        client = self._client
        if client is None or not self.job_ids:
            return
        if (waiter := self._later_try(client)) is not None:
            what = f"Job {self.job_ids[0]} goes on" if len(self.job_ids) == 1 else "The jobs go on"
            log.info("%s: try %s of this task waits now", what, waiter)
            return
        own = OwnClient(client, log)
        done, failed = run_blocking(cancel_jobs(own.once, self.job_ids, end=self._end, budget=_BUDGET))
        if len(self.job_ids) > 1:
            log.info("Cancelled %s of %s jobs", len(done), len(self.job_ids))
        for job_id, status in done.items() if len(self.job_ids) == 1 else ():
            log.info("Cancelled %s %s; it is %s", self._kind, job_id, status)
        if failed:
            why = next(reversed(failed.values()))
            log.warning("Could not be cancelled and may still be running: %s: %s", ", ".join(failed), why)

    def _later_try(self, client: TitanClient) -> int | None:
        try:
            waiter = client.store_get(_key(self.job_ids[0]))
        except TitanError:
            return None  # a kill that cannot be doubted is obeyed
        return int(waiter) if waiter and int(waiter) > self._try_number else None
