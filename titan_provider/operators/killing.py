"""What is left to do when Airflow kills a task: one cancel, quickly."""

from __future__ import annotations

from dataclasses import replace

from titan_provider.joblog import Logger
from titan_sdk import ClientConfig, RetryPolicy, TitanClient, TitanError

__all__ = ["JobKiller"]

_SECONDS = 1.5


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

    def arm(self, config: ClientConfig) -> None:
        """From now on a kill knows where the master is."""
        hasty = replace(config, connect_timeout=_SECONDS, timeout=_SECONDS, retry=RetryPolicy(attempts=1))
        self._client = TitanClient(config=hasty)

    def kill(self, log: Logger) -> None:
        """Cancel the job, if one was submitted or may be at any moment."""
        self.killed = True
        if self._client is None or self.job_id is None:
            return
        try:
            status = self._client.cancel_job(self.job_id)
        except TitanError as exc:
            log.warning("Job %s could not be cancelled and may still be running: %s", self.job_id, exc)
        else:
            log.info("Cancelled job %s; it is %s", self.job_id, status)
