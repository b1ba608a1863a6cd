"""TitanDagSensor: wait for work on a Titan cluster that somebody else submitted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from titan_provider.compat import (
    AirflowException,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanMasterUnreachable, TitanWorkFailed
from titan_provider.hooks.titan import TitanHook
from titan_provider.triggers.jobs import TitanJobsTrigger
from titan_sdk import DagReport, NotFound, TitanClient, TransportError

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["TitanDagSensor"]


class TitanDagSensor(BaseSensorOperator):
    """Succeeds when a Titan DAG, or every one of some jobs, has completed; fails when one of them cannot.

    A DAG or job that the master does not know yet is waited for until ``timeout``. The XCom is the final state of
    every job, by job id. Give either ``dag_name`` or ``job_ids``.

    :param dag_name: name of a DAG submitted through the SDK (templated)
    :param run: which run of it: the run id that its submit returned; by default the latest (templated)
    :param job_ids: ids of jobs from any source, with or without ``DAG-`` (templated)
    :param titan_conn_id: connection of type ``titan`` (templated)
    :param deferrable: wait in the triggerer, without a worker slot
    :param unreachable_timeout: seconds for which the master may be silent while deferred. While poking, a silent
        master is asked again at the next poke, until ``timeout``
    """

    template_fields: Sequence[str] = ("dag_name", "run", "job_ids", "titan_conn_id")
    ui_color = "#dce9f7"

    def __init__(
        self,
        *,
        dag_name: str | None = None,
        run: str | None = None,
        job_ids: Sequence[str] | None = None,
        titan_conn_id: str = TitanHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        unreachable_timeout: float = 300.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (dag_name is None) == (job_ids is None):
            raise ValueError(f"task {self.task_id!r}: give either dag_name= or job_ids=, and not both")
        self.dag_name = dag_name
        self.run = run
        self.job_ids = job_ids
        self.titan_conn_id = titan_conn_id
        self.deferrable = deferrable
        self.unreachable_timeout = unreachable_timeout

    def execute(self, context: Context) -> Any:
        """Poke, or look once and leave the waiting to a trigger."""
        if not self.deferrable:
            return super().execute(context)
        try:
            done = self.poke(context)
        except AirflowException as exc:
            # Airflow softens what a poking sensor and a resumed one raise, but not what this first look does.
            if not (self.soft_fail or self.never_fail):
                raise
            which = "soft_fail" if self.soft_fail else "never_fail"
            raise AirflowSkipException(f"Skipping due to {which} is set to True.") from exc
        if isinstance(done, PokeReturnValue):
            return done.xcom_value
        trigger = TitanJobsTrigger(
            titan_conn_id=self.titan_conn_id,
            dag_name=self.dag_name,
            run=self.run,
            job_ids=self._ids(),
            poll_interval=self.poke_interval,
            unreachable_timeout=self.unreachable_timeout,
        )
        return self.defer(
            trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout)
        )

    def poke(self, context: Context) -> Any:  # noqa: ARG002 - Airflow's signature
        """Look once: False, or the final states.

        :raises TitanWorkFailed: a job failed, was cancelled, or can never run
        """
        with TitanHook(self.titan_conn_id).get_conn() as client:
            try:
                report = self._report(client)
            except NotFound as exc:
                self.log.info("Not there yet: %s", exc)
                return False
            except TransportError as exc:
                self.log.warning("The Titan master does not answer: %s", exc)
                return False
        return self._judge(report)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """End the task that a trigger resumed, from the states as they are now.

        :param event: what the trigger fired
        """
        fired = JobEvent.from_dict(event)
        if fired.outcome is Outcome.UNREACHABLE:
            raise TitanMasterUnreachable(fired.message)
        if fired.outcome is not Outcome.ENDED:
            raise AirflowException(fired.message)
        return self.execute(context)

    def _report(self, client: TitanClient) -> DagReport:
        if self.dag_name is not None:
            return client.find_dag(self.dag_name, self.run).report()
        return DagReport(self._name(), tuple(client.job_report(job_id) for job_id in self._ids()))

    def _judge(self, report: DagReport) -> Any:
        if failures := report.failures:
            raise TitanWorkFailed(failures, len(report.jobs))
        states = {job.job_id: str(job.state) for job in report.jobs}
        if not all(job.state.is_success for job in report.jobs):
            self.log.info(
                "Waiting for %s: %s", self._name(), ", ".join(f"{k} {v}" for k, v in states.items())
            )
            return False
        return PokeReturnValue(is_done=True, xcom_value=states)

    def _name(self) -> str:
        return f"DAG {self.dag_name}" if self.dag_name is not None else f"{len(self._ids())} jobs"

    def _ids(self) -> list[str]:
        # A template renders to one text; an XCom of a single job is one too.
        return [self.job_ids] if isinstance(self.job_ids, str) else list(self.job_ids or ())
