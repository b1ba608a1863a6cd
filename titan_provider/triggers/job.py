"""The trigger of deferred tasks of one job. Rules for editing: see ``triggers/base.py``."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from titan_provider.events import JobEvent, Outcome
from titan_provider.triggers.base import WorkTrigger
from titan_provider.triggers.compat import logs_take_timestamps
from titan_provider.work.plan import KnownJob
from titan_provider.work.watch import WorkWatch

__all__ = ["TitanJobTrigger"]


class TitanJobTrigger(WorkTrigger):
    """Waits for one job, copies its log into the task log, and fires once.

    :param job_id: the job
    :param requirement: tag of the worker it needs, to explain why it waits
    :param deadline: unix time at which the job is cancelled
    :param placement_deadline: unix time at which it is cancelled if it has never started
    :param unreachable_timeout: seconds for which the master may be silent
    :param cancel_on_kill: cancel the job when the task is killed, cleared or marked
    :param nonce: names the submission; read from the master where it is not given
    :param owner_lease: seconds after which the job ends unless its lease is renewed here
    :param master: address of the master that has the job, where the connection has been edited since
    :param log_key: where in TitanStore the position in the log is kept; made here, new for every deferral
    """

    def __init__(
        self,
        titan_conn_id: str,
        job_id: str,
        requirement: str = "GENERAL",
        poll_interval: float = 2.0,
        deadline: float | None = None,
        placement_deadline: float | None = None,
        unreachable_timeout: float = 300.0,
        cancel_on_kill: bool = True,
        nonce: str | None = None,
        owner_lease: float | None = None,
        log_key: str | None = None,
        master: str = "",
    ) -> None:
        super().__init__()
        self.titan_conn_id = titan_conn_id
        self.job_id = job_id
        self.requirement = requirement
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.placement_deadline = placement_deadline
        self.unreachable_timeout = unreachable_timeout
        self.cancel_on_kill = cancel_on_kill
        self.nonce = nonce
        self.owner_lease = owner_lease
        self.master = master
        self.log_key = log_key or f"titan:airflow:log:{job_id}:{secrets.token_hex(4)}"

    @property
    def known(self) -> Mapping[str, KnownJob]:
        """The job, under its id."""
        return {self.job_id: KnownJob(self.job_id, self.nonce or "", "", (), self.requirement)}

    def make_watch(self) -> WorkWatch:
        """The wait for it."""
        return WorkWatch(
            self.known,
            self.log,
            poll_interval=self.poll_interval,
            unreachable_timeout=self.unreachable_timeout,
            placement_deadline=self.placement_deadline,
            owner_lease=self.owner_lease,
            dated=logs_take_timestamps,
            log_key=self.log_key,
        )

    def event_of(self, watch: WorkWatch, outcome: Outcome, message: str) -> JobEvent:
        """The job's state, and how far its log is copied.

        :param watch: the wait, as far as it came
        """
        statuses, copied = {self.job_id: watch.statuses[self.job_id]}, watch.copied
        return JobEvent(outcome, statuses, copied.position, copied.lines, message, master=self._asked)
