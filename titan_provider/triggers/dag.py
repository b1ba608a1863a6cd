"""The trigger of deferred tasks of several jobs. Rules for editing: see ``triggers/base.py``."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from titan_provider.events import JobEvent, Outcome
from titan_provider.triggers.base import WorkTrigger
from titan_provider.triggers.compat import logs_take_timestamps
from titan_provider.work.plan import KnownJob
from titan_provider.work.watch import WorkWatch

__all__ = ["TitanDagTrigger"]


class TitanDagTrigger(WorkTrigger):
    """Waits for the jobs of one task, copies their logs into the task log, and fires once.

    :param jobs: the jobs to wait for, by name, as JSON
    :param deadline: unix time at which they are cancelled
    :param unreachable_timeout: seconds for which the master may be silent
    :param cancel_on_kill: cancel the jobs when the task is killed, cleared or marked
    :param log_interval: seconds between two groups of log lines of one job
    :param placement_timeout: seconds for which a job may wait for a worker once its parents have completed
    :param master: address of the master that has the jobs, where the connection has been edited since
    :param log_key: where in TitanStore the positions in the logs are kept; made here, new for every deferral
    """

    def __init__(
        self,
        titan_conn_id: str,
        jobs: Mapping[str, Mapping[str, Any]],
        poll_interval: float = 2.0,
        log_interval: float = 30.0,
        deadline: float | None = None,
        unreachable_timeout: float = 300.0,
        cancel_on_kill: bool = True,
        log_key: str | None = None,
        placement_timeout: float | None = None,
        master: str = "",
    ) -> None:
        super().__init__()
        self.titan_conn_id = titan_conn_id
        self.jobs = {name: dict(job) for name, job in jobs.items()}
        self.poll_interval = poll_interval
        self.log_interval = log_interval
        self.deadline = deadline
        self.unreachable_timeout = unreachable_timeout
        self.cancel_on_kill = cancel_on_kill
        self.log_key = log_key or f"titan:airflow:log:{secrets.token_hex(8)}"
        self.placement_timeout = placement_timeout
        self.master = master
        self._known = {
            name: KnownJob(**{**job, "parents": tuple(job["parents"])}) for name, job in self.jobs.items()
        }

    @staticmethod
    def plain(jobs: Mapping[str, KnownJob]) -> dict[str, dict[str, Any]]:
        """Jobs as this trigger's argument."""
        return {name: asdict(job) | {"parents": list(job.parents)} for name, job in jobs.items()}

    @property
    def known(self) -> Mapping[str, KnownJob]:
        """The jobs, by the names that their user gave them."""
        return self._known

    def make_watch(self) -> WorkWatch:
        """The wait for them."""
        return WorkWatch(
            self._known,
            self.log,
            poll_interval=self.poll_interval,
            log_interval=self.log_interval,
            unreachable_timeout=self.unreachable_timeout,
            placement_timeout=self.placement_timeout,
            dated=logs_take_timestamps,
            log_key=self.log_key,
        )

    def event_of(self, watch: WorkWatch, outcome: Outcome, message: str) -> JobEvent:
        """The state of each job.

        :param watch: the wait, as far as it came
        """
        statuses = {job.job_id: watch.statuses[name] for name, job in self._known.items()}
        return JobEvent(outcome, statuses, message=message, master=self._asked)
