"""What is left to do when Airflow kills a task with several jobs: cancel them, within the 5 s before SIGKILL."""

from __future__ import annotations

import time
from collections.abc import Iterable

from titan_provider.joblog import Logger
from titan_provider.operators.killing import JobKiller
from titan_sdk import NotFound, StoreUnavailable, TitanError, TransportError

__all__ = ["DagKiller"]

_BUDGET = 3.5


class DagKiller(JobKiller):
    """Cancels a task's jobs inside Airflow's signal handler; the rules are those of :class:`JobKiller`."""

    def __init__(self) -> None:
        super().__init__()
        self.job_ids: tuple[str, ...] = ()

    def watch(self, job_ids: Iterable[str]) -> None:
        """These are to be cancelled.

        :param job_ids: children first
        """
        self.job_ids = tuple(job_ids)

    def kill(self, log: Logger) -> None:
        """Cancel the jobs, in their order."""
        self.killed = True
        if self._client is None or not self.job_ids:
            return
        began = time.monotonic()
        done: list[str] = []
        trouble = ""
        for job_id in self.job_ids:
            if time.monotonic() - began > _BUDGET:
                trouble = "there was no time left"
                break
            try:
                self._client.cancel_job(job_id)
            except NotFound:
                pass
            except StoreUnavailable as exc:
                trouble = str(exc)  # the master was told all the same
                continue
            except TransportError as exc:
                trouble = str(exc)
                break
            except TitanError as exc:
                trouble = str(exc)
                continue
            done.append(job_id)
        left = [job_id for job_id in self.job_ids if job_id not in done]
        log.info("Cancelled %s of %s jobs", len(done), len(self.job_ids))
        if left:
            log.warning("Could not be cancelled and may still be running: %s: %s", ", ".join(left), trouble)
