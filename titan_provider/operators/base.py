"""What the operators that wait for jobs have in common: a job is a DAG of one."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from titan_provider.compat import AirflowException, BaseOperator, TaskDeferralError, TaskDeferralTimeout
from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanJobTimedOut, TitanMasterUnreachable, TitanPlacementTimedOut
from titan_provider.hooks.titan import TitanHook
from titan_provider.openlineage import TitanLineage
from titan_provider.work.cancel import Killer
from titan_provider.work.own_client import OwnClient, run_blocking
from titan_sdk import TitanClient, TitanError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from titan_provider.work.watch import WorkWatch

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
    """Waits for jobs, here or by a trigger, and cancels them when the task is killed."""

    titan_conn_id: str
    cancel_on_kill: bool

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._killer = Killer()

    @abstractmethod
    def recorded_jobs(self, context: Context, client: TitanClient) -> tuple[str, list[str]] | None:
        """Address of the master and ids of the jobs that the task has recorded, children first; None without a record."""

    def on_kill(self) -> None:
        """Cancel the jobs."""
        if self.cancel_on_kill:
            self._killer.kill(self.log)
        self._killer.killed = True

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As Airflow does it, but a wait that Airflow itself broke off does not leave the jobs behind."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            if self.cancel_on_kill:
                self._cancel_recorded(context)
            raise

    def _cancel_recorded(self, context: Context) -> None:
        try:
            with TitanHook(self.titan_conn_id).get_conn() as client:
                found = self.recorded_jobs(context, client)
            if found is not None:
                config = TitanHook(self.titan_conn_id, master=found[0]).get_config()
                self._killer.arm(config, context["ti"].try_number, hasty=False)
                self._killer.watch(found[1])
                self._killer.kill(self.log)
        except TitanError as exc:
            self.log.error("The jobs could not be cancelled and may still be running: %s", exc)

    # -- waiting --------------------------------------------------------------------------------------------

    def _wait_here(self, client: TitanClient, watch: WorkWatch) -> None:
        """Return when nothing more can happen to the jobs."""
        try:
            run_blocking(watch.run(OwnClient(client, self.log)))
        except TitanPlacementTimedOut:
            self._killer.kill(self.log)
            raise

    def _leave_to(self, trigger: Any) -> NoReturn:
        """End this part of the task; the trigger keeps its ``execution_timeout``."""
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
