"""TitanDagSensor: wait for work on a Titan cluster that somebody else submitted."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from titan_provider.compat import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
    first_reschedule,
    trigger_timed_out,
)
from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanMasterUnreachable, TitanWorkFailed
from titan_provider.hooks.titan import TitanHook
from titan_provider.triggers.jobs import TitanJobsTrigger
from titan_provider.values import Duration, as_id, as_ids, plain, read_durations
from titan_provider.work.waiting import Patience
from titan_sdk import DagReport, NotFound, TitanClient, TransportError

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["TitanDagSensor"]

_TRIGGER_GRACE = timedelta(seconds=60)


class TitanDagSensor(BaseSensorOperator):
    """Succeeds when a Titan DAG, or every one of some jobs, has completed; fails when one of them cannot.

    A DAG or job that the master does not know yet is waited for until ``timeout``. The XCom is the final state of
    every job, by job id. Give either ``dag_name`` or ``job_ids``.

    It ends alike in every mode. Work that failed and the sensor's own ``timeout`` are never retried, and skip the task
    with ``soft_fail``; a connection that cannot be used, a refused token or a master that stays silent fail it, and may
    be retried. ``never_fail`` skips for any of them.

    :param dag_name: name of a DAG submitted through the SDK (templated)
    :param run: which run of it: the run id that its submit returned; by default the latest (templated)
    :param job_ids: ids of jobs from any source, with or without ``DAG-`` (templated)
    :param titan_conn_id: connection of type ``titan`` (templated)
    :param deferrable: wait in the triggerer, without a worker slot
    :param unreachable_timeout: seconds for which the master may be silent before the task gives up on it. This, like
        ``poke_interval`` and ``timeout``, may also be a text such as ``10m``, or a timedelta
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
        unreachable_timeout: Duration = 300.0,
        **kwargs: Any,
    ) -> None:
        # Airflow's own two take no texts.
        task = str(kwargs.get("task_id"))
        for name in ("poke_interval", "timeout"):
            if isinstance(kwargs.get(name), str):
                (kwargs[name],) = read_durations(task, zero=name == "timeout", **{name: kwargs[name]})
        super().__init__(**kwargs)
        if (dag_name is None) == (job_ids is None):
            raise ValueError(f"task {self.task_id!r}: give either dag_name= or job_ids=, and not both")
        self.dag_name = plain(dag_name)
        self.run = plain(run)
        self.job_ids = plain(job_ids)
        self.titan_conn_id = plain(titan_conn_id)
        self.deferrable = deferrable
        self._until, self._pause = math.inf, 0.0
        (self.unreachable_timeout,) = read_durations(task, zero=True, unreachable_timeout=unreachable_timeout)

    def execute(self, context: Context) -> Any:
        """Poke, or look once and leave the waiting to a trigger."""
        started = self._started(context)
        if not self.deferrable:
            self._until = started + self.timeout
            try:
                return super().execute(context)
            except AirflowSensorTimeout as exc:
                self._end(exc)  # which Airflow does not soften for never_fail
        return self._look_and_defer(started)

    def _look_and_defer(self, started: float) -> Any:
        try:
            done = self._look(Patience(self.unreachable_timeout))
        except (Exception, AirflowTaskTimeout) as exc:
            if _is_final(exc) or not self.silent_fail:
                self._end(exc)
            self.log.exception("Looking at Titan failed; going on because of silent_fail")
            done = None
        if isinstance(done, PokeReturnValue):
            return done.xcom_value
        trigger = TitanJobsTrigger(
            titan_conn_id=self.titan_conn_id,
            dag_name=as_id(self.dag_name),
            run=as_id(self.run),
            job_ids=self._ids(),
            poll_interval=self.poke_interval,
            unreachable_timeout=self.unreachable_timeout,
            silent_fail=self.silent_fail,
            since=started,
            deadline=started + self.timeout,
        )
        # The trigger keeps the deadline; Airflow's own only has to come after it.
        grace = timedelta(seconds=self.timeout) + _TRIGGER_GRACE
        return self.defer(trigger=trigger, method_name="execute_complete", timeout=grace)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As in Airflow, but with the rules of a poking sensor: Airflow would skip for any error at all."""
        try:
            return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)
        except AirflowSkipException:
            raise
        except Exception as exc:  # noqa: BLE001 - raised again or skipped, as Airflow does
            end = AirflowSensorTimeout(*exc.args) if trigger_timed_out(exc) else exc
            if end is not exc:
                end.__cause__ = exc
            self._end(end)

    def poke(self, context: Context) -> Any:  # noqa: ARG002 - Airflow's signature
        """Look once, for as long as the master may be silent: False, or the final states.

        :raises TitanWorkFailed: a job failed, was cancelled, or can never run
        :raises TitanMasterUnreachable: the master did not answer
        """
        patience = Patience(self.unreachable_timeout)
        while True:
            done = self._look(patience)
            left = self._until - time.time()
            if done is not None or left <= 0:
                return done or False
            time.sleep(min(self._pause, left))

    def _look(self, patience: Patience) -> Any:
        """As :meth:`poke`, but None where the master did not answer."""
        with TitanHook(self.titan_conn_id).get_conn() as client:
            try:
                report = self._report(client)
            except NotFound as exc:
                self.log.info("Not there yet: %s", exc)
                return False
            except TransportError as exc:
                self._pause = patience.failed(exc)
                if patience.is_first_failure:
                    self.log.warning("The Titan master does not answer; asking again: %s", exc)
                return None
        return self._judge(report)

    def _end(self, exc: BaseException) -> NoReturn:
        """End the task as Airflow ends a poking sensor."""
        which = (
            "soft_fail" if self.soft_fail and _is_final(exc) else "never_fail" if self.never_fail else None
        )
        if which is None:
            raise exc
        raise AirflowSkipException(f"Skipping due to {which} is set to True.") from exc

    def _started(self, context: Context) -> float:
        first = first_reschedule(context) if self.mode == "reschedule" else None
        return (first or datetime.now(UTC)).timestamp()

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        """End the task that a trigger resumed, from the states as they are now.

        :param event: the trigger's event
        """
        fired = JobEvent.from_dict(event)
        if fired.outcome is Outcome.UNREACHABLE:
            raise TitanMasterUnreachable(fired.message)
        if fired.outcome is Outcome.TIMED_OUT:
            raise AirflowSensorTimeout(fired.message)
        if fired.outcome is not Outcome.ENDED:
            raise AirflowException(fired.message)
        return self._look_and_defer(fired.since or time.time())

    def _report(self, client: TitanClient) -> DagReport:
        if self.dag_name is not None:
            return client.find_dag(as_id(self.dag_name), as_id(self.run)).report()
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
        ids = as_ids(as_id(self.job_ids))
        return [ids] if isinstance(ids, str) else list(ids or ())


def _is_final(exc: BaseException) -> bool:
    """Whether Airflow's ``soft_fail`` is about such an end."""
    return isinstance(exc, AirflowSensorTimeout | AirflowTaskTimeout | AirflowFailException)
