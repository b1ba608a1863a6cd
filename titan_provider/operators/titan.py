"""TitanJobOperator: one task, one remote job, its log in the task log and its result as the task's XCom."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from titan_provider.compat import (
    AirflowException,
    BaseOperator,
    TaskDeferralError,
    TaskDeferralTimeout,
    conf,
    dag_run_clear_number,
    task_state_store,
)
from titan_provider.dispatch import Record
from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import (
    TitanJobFailed,
    TitanJobFailedForGood,
    TitanJobTimedOut,
    TitanMasterUnreachable,
    TitanPlacementTimedOut,
)
from titan_provider.hooks.titan import TitanHook
from titan_provider.job_ids import make_job_id
from titan_provider.joblog import LogCursor
from titan_provider.links.titan import JOB_ID_XCOM, TitanJobLogLink
from titan_provider.operators.source import find_script, script_file
from titan_provider.operators.submission import STATE_KEY, obtain_job
from titan_provider.operators.waiting import JobWatch
from titan_provider.triggers.titan import TitanJobTrigger
from titan_provider.values import to_json
from titan_sdk import RetryPolicy, TitanClient, TitanError, TitanJob

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["TitanJobOperator"]

# The trigger keeps the deadline and cancels the job; Airflow's own trigger timeout, which cancels nothing, only
# has to come after it.
_TRIGGER_GRACE = timedelta(seconds=60)
_OUTCOMES: dict[Outcome, type[AirflowException]] = {
    Outcome.TIMED_OUT: TitanJobTimedOut,
    Outcome.NOT_PLACED: TitanPlacementTimedOut,
    Outcome.UNREACHABLE: TitanMasterUnreachable,
    Outcome.FAILED: AirflowException,
}


class TitanJobOperator(BaseOperator):
    """Runs a script on a worker of a Titan cluster and waits for it.

    What the script passes to ``titan_job.result(...)`` becomes the task's XCom; None when it passes nothing.
    Give either ``filename`` or ``script``.

    :param filename: path of the script, relative to the DAG file or to the current folder (templated)
    :param script: the script's source: Python, or shell when it begins with a ``#!`` line that names one. A value
        ending in ``.j2`` is the path of a template, looked for as Airflow does (templated)
    :param args: command-line arguments; a list arrives exactly, a text is split at spaces (templated)
    :param job_params: any JSON value, read in the script as ``titan_job.params`` (templated). It is not called
        ``params`` because Airflow keeps that name for the parameters of a DAG run, which allow no XComs
    :param env: environment variables of the script (templated). Whoever reaches the master can read them
    :param requirement: tag that the worker must have, such as ``GPU`` (templated)
    :param priority: higher runs first
    :param affinity: prefer the worker on which the first parent ran
    :param delay: do not start before that much time after the submit; milliseconds or a timedelta
    :param parents: ids of jobs that must have completed, such as another task's XCom ``titan_job_id`` (templated)
    :param python: interpreter on the worker (templated)
    :param max_attempts: how often the script may be started for one submission; Airflow's ``retries`` submit anew
    :param timeout: how long the script may run before the worker ends it; seconds or a timedelta
    :param job_id: start of the job's id, in place of dag, task and run (templated). A unique end is always added
    :param titan_conn_id: connection of type ``titan`` (templated)
    :param wait_for_completion: False ends the task after the submit; its XCom is then the job's id
    :param deferrable: wait in the triggerer, without a worker slot
    :param poll_interval: seconds between two looks at the job
    :param placement_timeout: how long the job may wait for a worker before it is cancelled and the task fails;
        seconds or a timedelta
    :param unreachable_timeout: seconds for which the master may be silent before the task gives up on it
    :param cancel_on_kill: cancel the job when the task is killed, cleared or marked
    :param durable: find the job of a crashed try again instead of submitting another (needs Airflow 3.3)
    :param no_retry_exit_codes: exit codes of the script after which Airflow does not retry the task
    """

    template_fields: Sequence[str] = (
        "filename",
        "script",
        "args",
        "job_params",
        "env",
        "requirement",
        "parents",
        "python",
        "job_id",
        "titan_conn_id",
    )
    # Not .py or .sh: Airflow would then read every argument that ends so as a file, ["--config", "run.yaml"] too.
    template_ext: Sequence[str] = (".j2", ".jinja2")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "script": "python",
        "job_params": "json",
        "env": "json",
    }
    ui_color = "#dce9f7"
    operator_extra_links = (TitanJobLogLink(),)
    script_name: str | None = None
    """What an inline script's file is called in tracebacks, if not like the task; for subclasses."""

    def __init__(
        self,
        *,
        filename: str | None = None,
        script: str | None = None,
        args: str | Sequence[str] | None = None,
        job_params: Any = None,
        env: Mapping[str, str] | None = None,
        requirement: str = "GENERAL",
        priority: int = 1,
        affinity: bool = False,
        delay: int | timedelta = 0,
        parents: Sequence[str] | None = None,
        python: str | None = None,
        max_attempts: int | None = None,
        timeout: float | timedelta | None = None,
        job_id: str | None = None,
        titan_conn_id: str = TitanHook.default_conn_name,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 2.0,
        placement_timeout: float | timedelta | None = None,
        unreachable_timeout: float = 300.0,
        cancel_on_kill: bool = True,
        durable: bool = True,
        no_retry_exit_codes: Collection[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (filename is None) == (script is None):
            raise ValueError(f"task {self.task_id!r}: give either filename= or script=, and not both")
        if not poll_interval > 0:
            raise ValueError(f"task {self.task_id!r}: poll_interval {poll_interval!r} is not above 0")
        self.filename = filename
        self.script = script
        self.args = args
        self.job_params = job_params
        self.env = env
        self.requirement = requirement
        self.priority = priority
        self.affinity = affinity
        self.delay = delay
        self.parents = parents
        self.python = python
        self.max_attempts = max_attempts
        self.timeout = timeout
        self.job_id = job_id
        self.titan_conn_id = titan_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.placement_timeout = placement_timeout
        self.unreachable_timeout = unreachable_timeout
        self.cancel_on_kill = cancel_on_kill
        self.durable = durable
        self.no_retry_exit_codes = no_retry_exit_codes
        self._kill_client: TitanClient | None = None
        self._submitted_id: str | None = None
        self._killed = False

    # -- the task -------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Submit the job, or find the one a crashed try left; then wait, or hand the waiting to a trigger."""
        started = time.time()
        hook = TitanHook(self.titan_conn_id)
        self._arm_kill(hook)
        with hook.get_conn() as client:
            job_id = self._obtain(context, client)
            if self.do_xcom_push:
                context["ti"].xcom_push(key=JOB_ID_XCOM, value=job_id)
            if not self.wait_for_completion:
                return job_id
            if self.deferrable:
                self._hand_over(job_id, started)
            self._watch(client, job_id).wait()
            return self._result(client, job_id)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:  # noqa: ARG002 - Airflow's signature
        """End the task that a trigger resumed: the rest of the log, then the result or the failure.

        :param event: what the trigger fired
        """
        fired = JobEvent.from_dict(event)
        (job_id,) = fired.statuses
        if fired.outcome is not Outcome.ENDED:
            raise _OUTCOMES[fired.outcome](fired.message)
        hook = TitanHook(self.titan_conn_id)
        self._arm_kill(hook)
        with hook.get_conn() as client:
            self._submitted_id = job_id
            self._watch(client, job_id, LogCursor(fired.log_position, fired.log_lines)).wait()
            return self._result(client, job_id)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As Airflow does it, but a wait that Airflow itself broke off does not leave the job behind."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            self._cancel_recorded(context)
            raise

    def on_kill(self) -> None:
        """Cancel the job. Airflow calls this inside a signal handler and sends SIGKILL 5 s later.

        The interrupted main thread may be anywhere, so this uses a client of its own and calls nothing of Airflow;
        even the log line comes last.
        """
        self._killed = True
        if not self.cancel_on_kill or self._kill_client is None or self._submitted_id is None:
            return
        try:
            status = self._kill_client.cancel_job(self._submitted_id)
        except TitanError as exc:
            self.log.error(
                "Job %s could not be cancelled and may still be running: %s", self._submitted_id, exc
            )
        else:
            self.log.info("Cancelled job %s; it is %s", self._submitted_id, status)

    # -- its parts ------------------------------------------------------------------------------------------

    def _arm_kill(self, hook: TitanHook) -> None:
        config = hook.get_config()
        self._kill_client = TitanClient(
            config=replace(config, connect_timeout=1.5, timeout=1.5, retry=RetryPolicy(attempts=1))
        )

    def _obtain(self, context: Context, client: TitanClient) -> str:
        ti = context["ti"]
        map_index = -1 if ti.map_index is None else ti.map_index
        names = (self.job_id, "", "") if self.job_id else (ti.dag_id, ti.task_id, ti.run_id)
        record = Record(
            job_id=make_job_id(*names, map_index=map_index, try_number=ti.try_number),
            max_tries=ti.max_tries,
            clear_number=dag_run_clear_number(context),
        )
        state = task_state_store(context) if self.durable else None
        try:
            if self.script is None:
                dag_file = getattr(context.get("dag"), "fileloc", None)
                found = find_script(str(self.filename), dag_file)
                return self._submit_file(client, state, record, found)
            with script_file(self.script, self.script_name or self.task_id) as written:
                return self._submit_file(client, state, record, written)
        finally:
            if self._killed:  # the kill may have come before the master knew the job
                self.on_kill()

    def _submit_file(self, client: TitanClient, state: Any, record: Record, path: str) -> str:
        def build(job_id: str) -> TitanJob:
            delay = self.delay
            return TitanJob(
                job_id,
                path,
                args=self.args,
                parents=self.parents,
                priority=self.priority,
                delay=int(delay.total_seconds() * 1000) if isinstance(delay, timedelta) else delay,
                affinity=self.affinity,
                requirement=self.requirement,
                params=to_json(self.job_params, "job_params"),
                env=self.env,
                python=self.python,
                max_attempts=self.max_attempts,
                timeout=_seconds(self.timeout),
            )

        def remember(job_id: str) -> None:
            self._submitted_id = job_id

        return obtain_job(client, state, record, build, self.log, remember)

    def _watch(self, client: TitanClient, job_id: str, cursor: LogCursor | None = None) -> JobWatch:
        return JobWatch(
            client,
            job_id,
            log=self.log,
            requirement=self.requirement,
            poll_interval=self.poll_interval,
            placement_timeout=_seconds(self.placement_timeout),
            unreachable_timeout=self.unreachable_timeout,
            cursor=cursor,
        )

    def _hand_over(self, job_id: str, started: float) -> NoReturn:
        placement, limit = _seconds(self.placement_timeout), _seconds(self.execution_timeout)
        trigger = TitanJobTrigger(
            titan_conn_id=self.titan_conn_id,
            job_id=job_id,
            requirement=self.requirement,
            poll_interval=self.poll_interval,
            deadline=None if limit is None else started + limit,
            placement_deadline=None if placement is None else started + placement,
            unreachable_timeout=self.unreachable_timeout,
            cancel_on_kill=self.cancel_on_kill,
        )
        grace = self.execution_timeout + _TRIGGER_GRACE if self.execution_timeout else None
        self.defer(trigger=trigger, method_name="execute_complete", timeout=grace)

    def _result(self, client: TitanClient, job_id: str) -> Any:
        report = client.job_report(job_id)
        if report.state.is_success:
            self.log.info("%s", report.describe())
            return report.result
        for_good = report.exit_code is not None and report.exit_code in self.no_retry_exit_codes
        raise (TitanJobFailedForGood if for_good else TitanJobFailed)(report, report.log_tail)

    def _cancel_recorded(self, context: Context) -> None:
        state = task_state_store(context) if self.durable and self.cancel_on_kill else None
        record = Record.from_json(state.get(STATE_KEY)) if state is not None else None
        if record is None:
            return
        try:
            with TitanHook(self.titan_conn_id).get_conn() as client:
                self.log.info("Cancelled job %s; it is %s", record.job_id, client.cancel_job(record.job_id))
        except TitanError as exc:
            self.log.error("Job %s could not be cancelled and may still be running: %s", record.job_id, exc)


def _seconds(value: float | timedelta | None) -> float | None:
    return value.total_seconds() if isinstance(value, timedelta) else value
