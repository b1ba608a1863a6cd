"""TitanDagOperator: one task, several jobs that Titan schedules by their parents, and their results by name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from titan_provider.compat import conf
from titan_provider.exceptions import TitanDagFailed
from titan_provider.hooks.titan import TitanHook
from titan_provider.links.titan import DAG_NAME_XCOM, TitanDagLink, links
from titan_provider.operators.base import TitanWorkOperator
from titan_provider.values import Duration, as_id, opened, plain, read_durations, received
from titan_provider.work.jobs import NamedJob, read_jobs
from titan_provider.work.plan import KnownJob, WorkRecord
from titan_provider.work.remote import RemoteWork, new_record
from titan_provider.work.watch import WorkWatch
from titan_sdk import CorruptData, TitanClient, TitanError, TitanJob, xcom

if TYPE_CHECKING:
    from airflow.sdk import Context

    from titan_provider.triggers.dag import TitanDagTrigger

__all__ = ["JOB_IDS_XCOM", "TitanDagOperator"]

JOB_IDS_XCOM = "titan_job_ids"
"""Key of the XCom that holds the jobs' ids by name."""


class TitanDagOperator(TitanWorkOperator):
    """Runs several jobs as one Titan DAG and waits for all of them.

    The task's XCom is what each job gave to ``titan_job.result(...)``, by the job's name. A retry or a clear runs only
    the jobs that did not succeed, those that were changed since, and what depends on them.

    :param jobs: dicts with a name as ``job_id``, one of ``filename``, ``script`` and ``module``, ``parents`` by name, and
        other parameters of :class:`titan_sdk.TitanJob` such as ``project``, ``args``, ``params``, ``env``, ``requirement``, ``requirements``,
        ``affinity``, ``timeout``; or TitanJobs (templated, the dicts all through)
    :param dag_name: name of the Titan DAG, by default ``<dag_id>.<task_id>`` (templated)
    :param titan_conn_id: connection of type ``titan`` (templated)
    :param wait_for_completion: False ends the task after the submit; its XCom is then the jobs' ids by name
    :param deferrable: wait in the triggerer, without a worker slot; jobs that all end within about a second are waited
        for here
    :param poll_interval: the longest pause between two looks at the jobs, see :class:`TitanJobOperator`. As any duration
        here it may also be a text such as ``10m`` or ``1h30m``, or a timedelta
    :param log_interval: seconds between two groups of log lines of a job that goes on printing
    :param placement_timeout: how long a job may wait for a worker, once its parents have completed, before all jobs are
        cancelled and the task fails. A job's own ``delay`` counts
    :param unreachable_timeout: seconds for which the master may be silent before the task gives up on it
    :param cancel_on_kill: cancel the jobs when the task is killed, cleared or marked
    :param durable: find the jobs of a crashed try again instead of submitting them once more
    """

    template_fields: Sequence[str] = ("jobs", "dag_name", "titan_conn_id")
    # See operators/titan.py.
    template_ext: Sequence[str] = (".j2", ".jinja2")
    template_fields_renderers: ClassVar[dict[str, str]] = {"jobs": "json"}
    ui_color = "#dce9f7"
    operator_extra_links = links(TitanDagLink())

    def __init__(
        self,
        *,
        jobs: Sequence[Mapping[str, Any] | TitanJob],
        dag_name: str | None = None,
        titan_conn_id: str = TitanHook.default_conn_name,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: Duration = 2.0,
        log_interval: Duration = 30.0,
        placement_timeout: Duration | None = None,
        unreachable_timeout: Duration = 300.0,
        cancel_on_kill: bool = True,
        durable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.jobs = plain(jobs)
        self.dag_name = plain(dag_name)
        self.titan_conn_id = plain(titan_conn_id)
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        (self.poll_interval,) = read_durations(self.task_id, poll_interval=poll_interval)
        self.log_interval, self.placement_timeout, self.unreachable_timeout = read_durations(
            self.task_id,
            zero=True,
            log_interval=log_interval,
            placement_timeout=placement_timeout,
            unreachable_timeout=unreachable_timeout,
        )
        self.cancel_on_kill = cancel_on_kill
        self.durable = durable

    # -- the task -------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Submit the jobs, or find those of an earlier try; then wait, or hand the waiting to a trigger."""
        return self.run_work(context, new_record(context), time.time())

    # -- its parts ------------------------------------------------------------------------------------------

    @property
    def keeps_record(self) -> bool:
        """A trigger's event is matched with the record, so a deferred wait keeps one in any case."""
        return self.durable or self.deferrable

    def titan_dag_name(self, context: Context) -> str:
        """Name of the jobs' DAG on the master."""
        return as_id(self.dag_name) or f"{context['ti'].dag_id}.{self.task_id}"

    def read_jobs(self, context: Context, stack: ExitStack | None = None) -> list[NamedJob]:
        """The jobs, as their author wrote them.

        :param stack: removes what was unpacked of a packed DAG
        """
        dag_file = getattr(context.get("dag"), "fileloc", None)
        return read_jobs(f"task {self.task_id!r}", self.jobs, dag_file, stack)

    def push_ids(self, context: Context, record: WorkRecord) -> Any:
        """The jobs' ids by name."""
        if self.do_xcom_push:
            context["ti"].xcom_push(key=JOB_IDS_XCOM, value=record.ids)
            context["ti"].xcom_push(key=DAG_NAME_XCOM, value=self.titan_dag_name(context))
        return record.ids

    def make_watch(self, jobs: Mapping[str, KnownJob], **options: Any) -> WorkWatch:
        """The blocking wait, with each job's log in groups."""
        return super().make_watch(jobs, log_interval=self.log_interval, **options)

    def make_trigger(self, work: RemoteWork, started: float) -> TitanDagTrigger:
        """The trigger of several jobs.

        :param started: unix time at which the task began
        """
        from titan_provider.triggers.dag import TitanDagTrigger  # not while DAG files are parsed

        return TitanDagTrigger(
            titan_conn_id=self.titan_conn_id,
            jobs=TitanDagTrigger.plain(work.record.open_jobs),
            poll_interval=self.poll_interval,
            log_interval=self.log_interval,
            deadline=self._deadline(started),
            unreachable_timeout=self.unreachable_timeout,
            cancel_on_kill=self.cancel_on_kill,
            master=work.record.run.master,
            placement_timeout=self.placement_timeout,
        )

    def take_results(self, work: RemoteWork, *, log_shown: bool) -> dict[str, Any]:  # noqa: ARG002 - of several logs, the message repeats none
        """The jobs' results by name."""
        jobs, client = work.record.jobs, work.client
        reports = {name: replace(report, job_id=name) for name, report in work.results().items()}
        states = {name: report.state for name, report in reports.items()}
        for name, job in jobs.items():
            # The bundled master ends jobs below a failed one, a real one leaves them PENDING: here both are the same.
            causes = tuple(parent for parent in job.parents if not states[parent].is_success)
            if causes and not states[name].is_success:
                reports[name] = replace(reports[name], upstream_failed=causes)
        self.lineage_reports = tuple(
            replace(report, job_id=jobs[name].job_id) for name, report in reports.items()
        )
        failures = [report for report in reports.values() if not report.state.is_success]
        if failures:
            self._cancel_blocked(client, [jobs[report.job_id].job_id for report in failures])
            raise TitanDagFailed(
                sorted(failures, key=lambda report: bool(report.upstream_failed)), len(reports)
            )
        return {name: _value(client, received(report)) for name, report in reports.items()}

    def _cancel_blocked(self, client: TitanClient, job_ids: list[str]) -> None:
        """A real master keeps children of a failed job, and would run them after its own restart."""
        for job_id, status in client.get_job_statuses(job_ids).items():
            try:
                if not status.is_terminal:
                    client.cancel_job(job_id)
            except TitanError as exc:
                self.log.warning(
                    "Job %s, which waits for a failed one, could not be cancelled: %s", job_id, exc
                )


def _value(client: TitanClient, result: Any) -> Any:
    """The value behind a reference that ``write_xcom`` made, which the XCom backend would not see inside the task's dict."""
    try:
        reference = xcom.Reference.from_json(result)
        if reference is None or not xcom.was_written_by_a_job(client, reference):
            return result
    except CorruptData:
        return result
    return opened(xcom.value_of(client, reference), "the result")
