"""The base of the operators: obtain the jobs, wait for them here or by a trigger, and cancel them when the task is killed."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from titan_provider.compat import AirflowException, BaseOperator, TaskDeferralError, TaskDeferralTimeout
from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanJobTimedOut, TitanMasterUnreachable, TitanPlacementTimedOut
from titan_provider.hooks.titan import TitanHook
from titan_provider.openlineage import TitanLineage
from titan_provider.work.cancel import Cancellation
from titan_provider.work.joblog import MAX_LINES
from titan_provider.work.remote import RemoteWork
from titan_provider.work.watch import WorkWatch
from titan_sdk import TitanError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from titan_provider.work.jobs import NamedJob
    from titan_provider.work.plan import KnownJob, Record, WorkRecord

__all__ = ["TitanWorkOperator"]

# The trigger keeps the deadline and cancels the jobs; Airflow's own trigger timeout, which cancels nothing, only
# has to come after it.
_TRIGGER_GRACE = timedelta(seconds=60)
_OUTCOMES: dict[Outcome, type[AirflowException]] = {
    Outcome.TIMED_OUT: TitanJobTimedOut,
    Outcome.NOT_PLACED: TitanPlacementTimedOut,
    Outcome.UNREACHABLE: TitanMasterUnreachable,
    Outcome.FAILED: AirflowException,
}


class TitanWorkOperator(TitanLineage, BaseOperator):
    """Runs jobs, waits for them, here or by a trigger, and cancels them when the task is killed."""

    titan_conn_id: str
    durable: bool
    unreachable_timeout: float
    poll_interval: float
    placement_timeout: float | None = None
    wait_for_completion = True
    deferrable = False
    cancel_on_kill = True
    work_class: ClassVar[type[RemoteWork]] = RemoteWork

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._cancellation = Cancellation()

    # -- what an operator adds ------------------------------------------------------------------------------

    @abstractmethod
    def read_jobs(self, context: Context, stack: ExitStack | None = None) -> list[NamedJob]:
        """The jobs that the task's author wants.

        :param stack: closed when they are submitted; it removes what was unpacked for that
        """

    @abstractmethod
    def push_ids(self, context: Context, record: WorkRecord) -> Any:
        """Push the XComs that name the jobs; the task's own XCom where it does not wait for them."""

    def make_trigger(self, work: RemoteWork, started: float) -> Any:
        """The trigger that waits for the jobs; an operator that never defers has none.

        :param started: unix time at which the task began
        """

    @abstractmethod
    def take_results(self, work: RemoteWork, *, log_shown: bool) -> Any:
        """The task's XCom, once all jobs have ended.

        :param log_shown: whether the task log has all that the jobs printed
        """

    def admit(self, work: RemoteWork, job_id: str, started: float) -> None:
        """Return when the job with that id may be submitted."""

    def make_watch(self, jobs: Mapping[str, KnownJob], **options: Any) -> WorkWatch:
        """The blocking wait for the jobs.

        :param options: parameters that only some operators have
        """
        return WorkWatch(
            jobs,
            self.log,
            poll_interval=self.poll_interval,
            unreachable_timeout=self.unreachable_timeout,
            placement_timeout=self.placement_timeout,
            **options,
        )

    @property
    def keeps_record(self) -> bool:
        """Whether later tries, or the end of a deferral, find a record of the jobs."""
        return self.durable

    def titan_dag_name(self, context: Context) -> str | None:  # noqa: ARG002 - for operators of several jobs
        """Name of the jobs' DAG on the master; None for an operator of one job."""
        return None

    # -- the task -------------------------------------------------------------------------------------------

    def run_work(self, context: Context, run: Record, started: float) -> Any:
        """The task from its beginning to its end, or to its deferral.

        :param run: the record of this try
        :param started: unix time at which the task began
        """
        with ExitStack() as stack:
            jobs = self.read_jobs(context, stack)
            work = stack.enter_context(self.remote_work(context))
            return self.follow(context, work, run, jobs, started)

    def follow(
        self, context: Context, work: RemoteWork, run: Record, jobs: Sequence[NamedJob], started: float
    ) -> Any:
        """Obtain the jobs, wait for them, and take their results."""
        record = work.obtain(run, jobs, lambda job_id: self.admit(work, job_id, started))
        ids = self.push_ids(context, record)
        if not self.wait_for_completion:
            return ids
        if self.deferrable and not work.ends_soon():
            self._leave_to_trigger(work, started)
        watch = self.make_watch(record.open_jobs)
        work.watch(watch)
        return self.take_results(work, log_shown=watch.is_whole)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """End the task that a trigger resumed.

        :param event: the trigger's event
        """
        fired = JobEvent.from_dict(event)
        with self.remote_work(context, fired.master) as work:
            if not work.resume(fired):
                self._leave_to_trigger(work, time.time())
            self._raise_for(fired)
            return self.take_results(work, log_shown=fired.log_lines <= MAX_LINES)

    def on_kill(self) -> None:
        """Cancel the jobs."""
        self._cancellation.killed = True
        if self.cancel_on_kill:
            self._cancellation.cancel(self.log)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As in Airflow, but the jobs are cancelled where Airflow itself broke the wait off."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            if self.cancel_on_kill:
                self._cancel_recorded(context)
            raise

    def remote_work(self, context: Context, master: str = "") -> RemoteWork:
        """The task's jobs.

        :param master: address of the master to ask, where that is not the connection's
        """
        return self.work_class(
            context,
            TitanHook(self.titan_conn_id, master=master),
            self.log,
            self._cancellation,
            on_kill=self.on_kill,
            dag_name=self.titan_dag_name(context),
            durable=self.durable,
            keeps_record=self.keeps_record,
            unreachable_timeout=self.unreachable_timeout,
        )

    # -- its parts ------------------------------------------------------------------------------------------

    def _cancel_recorded(self, context: Context) -> None:
        try:
            with self.remote_work(context) as work:
                work.cancel_recorded()
        except TitanError as exc:
            self.log.error("The jobs could not be cancelled and may still be running: %s", exc)

    def _leave_to_trigger(self, work: RemoteWork, started: float) -> NoReturn:
        """End this part of the task; the trigger keeps its ``execution_timeout``."""
        trigger = self.make_trigger(work, started)
        grace = self.execution_timeout + _TRIGGER_GRACE if self.execution_timeout else None
        self.defer(trigger=trigger, method_name="execute_complete", timeout=grace)

    def _deadline(self, started: float) -> float | None:
        """Unix time at which the task is over.

        :param started: unix time at which it began
        """
        limit = self.execution_timeout
        return None if limit is None else started + limit.total_seconds()

    @staticmethod
    def _raise_for(fired: JobEvent) -> None:
        """Fail the task where its trigger gave up."""
        if fired.outcome in _OUTCOMES:
            raise _OUTCOMES[fired.outcome](fired.message)
