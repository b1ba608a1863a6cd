"""What is left to do when Airflow kills a task: one cancel, quickly."""

from __future__ import annotations

from dataclasses import replace

from titan_provider.joblog import Logger
from titan_sdk import ClientConfig, RetryPolicy, TitanClient, TitanError

__all__ = ["JobKiller", "announce_try"]

_SECONDS = 1.5


def announce_try(client: TitanClient, job_id: str, try_number: int) -> None:
    """Let earlier tries know that this one waits for their job now.

    A try that Airflow gave up (its host froze) is told to end when it comes back; that must not cancel the job.

    :param job_id: the job that was taken up
    :param try_number: of the task instance that took it up
    """
    client.store_put(_key(job_id), str(try_number))


def _key(job_id: str) -> str:
    return f"titan:airflow:waiter:{job_id}"


class JobKiller:
    """Cancels a task's job inside Airflow's signal handler, which is followed by SIGKILL 5 s later.

    The interrupted main thread may be anywhere, so this uses a client of its own, made before, and calls nothing of
    Airflow; even the log line comes last.
    """

    def __init__(self) -> None:
        self.killed = False
        """Also true when the kill came before there was anything to cancel."""
        self.job_id: str | None = None
        self._client: TitanClient | None = None
        self._try_number = 0

    def arm(self, config: ClientConfig, try_number: int = 0) -> None:
        """From now on a kill knows where the master is.

        :param try_number: of the task instance that a kill is about
        """
        self._try_number = try_number
        hasty = replace(config, connect_timeout=_SECONDS, timeout=_SECONDS, retry=RetryPolicy(attempts=1))
        self._client = TitanClient(config=hasty)

    def kill(self, log: Logger) -> None:
        """Cancel the job, if one was submitted or may be at any moment."""
        self.killed = True
        if self._client is None or self.job_id is None:
            return
        try:
            if (waiter := self._later_try(self._client, self.job_id)) is not None:
                log.info("Job %s goes on: try %s of this task waits for it now", self.job_id, waiter)
                return
            status = self._client.cancel_job(self.job_id)
        except TitanError as exc:
            log.warning("Job %s could not be cancelled and may still be running: %s", self.job_id, exc)
        else:
            log.info("Cancelled job %s; it is %s", self.job_id, status)

    def _later_try(self, client: TitanClient, job_id: str) -> int | None:
        try:
            waiter = client.store_get(_key(job_id))
        except TitanError:
            return None  # a kill that cannot be doubted is obeyed
        return int(waiter) if waiter and int(waiter) > self._try_number else None
