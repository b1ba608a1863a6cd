"""TitanJobOperator: one task, one remote job, its log in the task log and its result as the task's XCom."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from titan_provider.compat import AirflowException, conf
from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanJobFailed, TitanJobFailedForGood
from titan_provider.hooks.titan import TitanHook
from titan_provider.links.titan import JOB_ID_XCOM, TitanJobLogLink, links
from titan_provider.operators.base import TitanWorkOperator
from titan_provider.values import Duration, as_id, as_ids, plain, read_durations, received, to_json
from titan_provider.work.admission import AdmissionQueue, Sightings, Window, enter, wait_for_room
from titan_provider.work.joblog import LogCursor, env_texts, mask_env
from titan_provider.work.jobs import NamedJob
from titan_provider.work.plan import ONLY, KnownJob, WorkRecord
from titan_provider.work.project import find_project, find_requirements
from titan_provider.work.remote import RemoteWork, new_record
from titan_provider.work.source import Script, choose_script
from titan_provider.work.waiting import OwnClient, run_blocking
from titan_provider.work.watch import WorkWatch, describe_progress
from titan_sdk.config import parse_duration
from titan_sdk.xcom import TaskCoordinate

if TYPE_CHECKING:
    from airflow.sdk import Context

    from titan_provider.triggers.job import TitanJobTrigger

__all__ = ["TitanJobOperator"]


class TitanJobOperator(TitanWorkOperator):
    """Runs a script on a worker of a Titan cluster and waits for it.

    The value that the script passes to ``titan_job.result(...)`` becomes the task's XCom; without one, the XCom is None.
    Give one of ``filename``, ``script`` and ``module``.

    :param filename: path of the script, relative to the DAG file or to the current folder; with a ``project``, a path in
        it (templated)
    :param script: the script's source: Python, or shell if its ``#!`` line names one. A value that ends in ``.j2`` is the
        path of a template, which Airflow searches (templated)
    :param module: a module of the project or of the worker, run as by ``python -m`` (templated)
    :param project: a folder that travels with the job and is on the path of its Python, relative to the DAG file or to
        the current folder (templated)
    :param cwd: the current folder of a job with a project: ``project``, its root, or ``worker``, the worker's own folder
    :param args: command-line arguments; a list arrives exactly, a text is split at spaces (templated)
    :param job_params: a value of a type in docs/values.md, read in the script as ``titan_job.params`` (templated). It is not
        called ``params`` because Airflow keeps that name for the parameters of a DAG run, which allow no XComs
    :param env: environment variables of the script (templated). Everybody who reaches the master can read them
    :param inputs: files that are put in place before the script starts, by path: a reference that another task has pushed
        (``train.output["model"]``), or ``titan://KEY`` (templated)
    :param outputs: the script's output files, by name: a path, a pattern or a folder. After success each is an artifact, and
        its reference an XCom of the task under that name (templated)
    :param checkpoint_key: the key of the job's checkpoint (``titan_job.checkpoint``); by default the tries of the task
        share a key (templated)
    :param keep_checkpoint: keep the checkpoint after the job's success
    :param resume_on_clear: continue from the checkpoint after a clear of the task, too
    :param requirement: tag that the worker must have, such as ``GPU`` (templated)
    :param requirements: the job's packages: a list such as ``["numpy>=2"]``, or the path of a ``requirements.txt``,
        ``uv.lock``, ``pylock.toml`` or ``pyproject.toml``, relative to the DAG file or to the current folder. The worker
        installs them once, for all jobs with the same requirements (templated)
    :param inherit_packages: the job also sees the worker's packages, such as a GPU image's torch
    :param priority: higher runs first
    :param affinity: prefer the worker on which the first parent ran
    :param delay: milliseconds from the submit to the earliest start. Like any duration here, it may also be a text such as
        ``10m``, ``1h30m`` or ``500ms``, or a timedelta
    :param parents: ids of jobs that must have completed, such as another task's XCom ``titan_job_id`` (templated)
    :param python: interpreter on the worker (templated)
    :param max_attempts: the greatest number of starts of the script for one submission; Airflow's ``retries`` submit anew
    :param timeout: how long the script may run before the worker ends it; seconds
    :param job_id: beginning of the job's id, in place of dag, task and run (templated). A unique end is always added
    :param titan_conn_id: connection of type ``titan`` (templated)
    :param wait_for_completion: False ends the task after the submit; its XCom is then the job's id
    :param deferrable: wait in the triggerer, without a worker slot. The task defers only if the job takes longer than about
        a second
    :param poll_interval: the longest pause, in seconds, between two polls of the job's log and, on a real Titan, of its
        state; the first pauses are shorter. The bundled master reports an end at once
    :param placement_timeout: how long the job may wait for a worker before it is cancelled and the task fails;
        seconds
    :param unreachable_timeout: seconds of the master's silence after which the task gives up
    :param max_unfinished: the greatest number of unfinished jobs with this ``requirement`` on the master. While there are so
        many, this task waits without submitting. Default: the connection's ``max_unfinished``
    :param cancel_on_kill: cancel the job when the task is killed, cleared or marked
    :param cancel_grace: how long the script has between SIGTERM and SIGKILL when the job is cancelled or its ``timeout``
        is over; seconds. The cancel does not wait for that, but the next try of the task does
    :param owner_lease: seconds after which the job ends by itself if neither the task nor its trigger is alive. It must be
        longer than ``retry_delay``; otherwise a retry finds its job ended
    :param durable: after a crash, find the job of the earlier try and do not submit another
    :param no_retry_exit_codes: exit codes of the script after which Airflow does not retry the task
    """

    template_fields: Sequence[str] = (
        "filename",
        "script",
        "module",
        "project",
        "args",
        "job_params",
        "env",
        "inputs",
        "outputs",
        "checkpoint_key",
        "requirement",
        "requirements",
        "parents",
        "python",
        "job_id",
        "titan_conn_id",
    )
    # Not .py or .sh, because Airflow would then read every argument with such an end as a file.
    template_ext: Sequence[str] = (".j2", ".jinja2")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "script": "python",
        "job_params": "json",
        "env": "json",
        "inputs": "json",
        "outputs": "json",
    }
    ui_color = "#dce9f7"
    operator_extra_links = links(TitanJobLogLink())
    script_name: str | None = None
    """File name of an inline script in tracebacks, in place of the task's; for subclasses."""

    def __init__(
        self,
        *,
        filename: str | None = None,
        script: str | None = None,
        module: str | None = None,
        project: str | os.PathLike[str] | None = None,
        cwd: str = "project",
        args: str | float | Sequence[str | float] | None = None,
        job_params: Any = None,
        env: Mapping[str, str | float] | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, str] | None = None,
        checkpoint_key: str | None = None,
        keep_checkpoint: bool = False,
        resume_on_clear: bool = False,
        requirement: str = "GENERAL",
        requirements: Sequence[str] | str | os.PathLike[str] | None = None,
        inherit_packages: bool = False,
        priority: int = 1,
        affinity: bool = False,
        delay: int | str | timedelta = 0,
        parents: Sequence[str] | None = None,
        python: str | None = None,
        max_attempts: int | None = None,
        timeout: Duration | None = None,
        job_id: str | None = None,
        titan_conn_id: str = TitanHook.default_conn_name,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: Duration = 2.0,
        placement_timeout: Duration | None = None,
        unreachable_timeout: Duration = 300.0,
        max_unfinished: int | None = None,
        cancel_on_kill: bool = True,
        cancel_grace: Duration = 5.0,
        owner_lease: Duration | None = None,
        durable: bool = True,
        no_retry_exit_codes: Collection[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if sum(way is not None for way in (filename, script, module)) != 1:
            raise ValueError(
                f"task {self.task_id!r}: give one of filename=, script= and module=, and no other of them"
            )
        if cwd not in ("project", "worker"):
            raise ValueError(f"task {self.task_id!r}: cwd {cwd!r} is neither 'project' nor 'worker'")
        if max_unfinished is not None and max_unfinished < 1:
            raise ValueError(f"task {self.task_id!r}: max_unfinished {max_unfinished!r} lets no job through")
        if owner_lease is not None and not wait_for_completion:
            raise ValueError(
                f"task {self.task_id!r}: owner_lease needs wait_for_completion, as it ends jobs nobody waits for"
            )
        self.filename = plain(filename)
        self.script = script
        self.module = plain(module)
        self.project = plain(os.fspath(project) if isinstance(project, os.PathLike) else project)
        self.cwd = cwd
        self.args = plain(args)
        self.job_params = plain(job_params)
        self.env = plain(env)
        self.inputs = plain(inputs)
        self.outputs = plain(outputs)
        self.checkpoint_key = plain(checkpoint_key)
        self.keep_checkpoint = keep_checkpoint
        self.resume_on_clear = resume_on_clear
        self.requirement = plain(requirement)
        self.requirements = plain(
            os.fspath(requirements) if isinstance(requirements, os.PathLike) else requirements
        )
        self.inherit_packages = inherit_packages
        self.priority = priority
        self.affinity = affinity
        parse_duration(delay, f"task {self.task_id!r}: delay", unit="ms", zero=True)
        self.delay = delay
        self.parents = plain(parents)
        self.python = plain(python)
        self.max_attempts = max_attempts
        self.job_id = plain(job_id)
        self.titan_conn_id = plain(titan_conn_id)
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.max_unfinished = max_unfinished
        self.cancel_on_kill = cancel_on_kill
        self.durable = durable
        self.no_retry_exit_codes = no_retry_exit_codes
        self.timeout, self.owner_lease, self.poll_interval = read_durations(
            self.task_id, timeout=timeout, owner_lease=owner_lease, poll_interval=poll_interval
        )
        self.placement_timeout, self.unreachable_timeout, self.cancel_grace = read_durations(
            self.task_id,
            zero=True,
            placement_timeout=placement_timeout,
            unreachable_timeout=unreachable_timeout,
            cancel_grace=cancel_grace,
        )

    # -- the task -------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Submit the job, or find the job of a crashed try. Then wait for it, or let a trigger wait."""
        mask_env(self.env)
        return self.run_work(context, new_record(context, as_id(self.job_id)), time.time())

    def execute_admitted(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Continue a task that a trigger has resumed, because its job may be submitted now.

        :param event: the trigger's event
        """
        fired = JobEvent.from_dict(event)
        self._raise_for(fired)
        mask_env(self.env)
        run = new_record(context, as_id(self.job_id))
        if fired.outcome is Outcome.ADMITTED:
            (job_id,) = fired.statuses
            run = replace(run, job_id=job_id)
        return self.run_work(context, run, fired.since or time.time())

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """End a task that a trigger has resumed: copy the rest of the log, then return the result or raise the failure.

        :param event: the trigger's event
        """
        mask_env(self.env)
        return super().execute_complete(context, event)

    # -- its parts ------------------------------------------------------------------------------------------

    def read_jobs(self, context: Context, stack: ExitStack | None = None) -> list[NamedJob]:
        """The one job.

        :param stack: removes the unpacked files of a packed DAG
        """
        dag, ti = context.get("dag"), context.get("ti")
        if self.module is not None or (self.project and self.script is None):
            script = Script(str(self.filename or ""))
        else:
            script = choose_script(self.filename, self.script, self.script_name or self.task_id, dag)
        dag_file = getattr(dag, "fileloc", None)
        fields = {
            "module": as_id(self.module),
            "project": find_project(self.project, dag_file, stack or ExitStack()) if self.project else None,
            "cwd": self.cwd,
            "args": self.args,
            "priority": self.priority,
            "delay": self.delay,
            "affinity": self.affinity,
            "requirement": as_id(self.requirement),
            "requirements": find_requirements(self.requirements, dag_file, stack or ExitStack()),
            "inherit_packages": self.inherit_packages,
            "params": to_json(self.job_params, "job_params"),
            "env": self.env,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "checkpoint_key": as_id(self.checkpoint_key)
            or (TaskCoordinate.of(ti).checkpoint_key if ti else None),
            "keep_checkpoint": self.keep_checkpoint,
            "python": self.python,
            "max_attempts": self.max_attempts,
            "timeout": self.timeout,
            "owner_lease": self.owner_lease,
            "cancel_grace": self.cancel_grace,
        }
        parents = tuple(as_ids(self.parents) or ())
        return [NamedJob(ONLY, parents, script, fields, mark="", clears_checkpoint=not self.resume_on_clear)]

    def push_ids(self, context: Context, record: WorkRecord) -> Any:
        """The job's id."""
        job_id = record.ids[ONLY]
        if self.do_xcom_push:
            context["ti"].xcom_push(key=JOB_ID_XCOM, value=job_id)
        return job_id

    def admit(self, work: RemoteWork, job_id: str, started: float) -> None:
        """Return when the job may be submitted. A deferrable task lets a trigger wait."""
        limit = self.max_unfinished or work.max_unfinished
        if limit is None:
            return
        window = Window(as_id(self.requirement), limit)
        own, patience = OwnClient(work.client, self.log), self.unreachable_timeout
        if run_blocking(enter(own, window, [job_id], Sightings(), patience)).admitted:
            return
        if not self.deferrable:
            self.log.info("Job %s is held back: %s", job_id, window.why_closed())
            has_room = wait_for_room(
                own, window, job_id, AdmissionQueue(), patience, lambda: self._cancellation.killed
            )
            if not run_blocking(has_room):
                raise AirflowException(f"the task was killed before its job {job_id!r} was submitted")
            return
        from titan_provider.triggers.admission import TitanAdmissionTrigger  # not while DAG files are parsed

        trigger = TitanAdmissionTrigger(
            titan_conn_id=self.titan_conn_id,
            job_id=job_id,
            tag=window.tag,
            limit=limit,
            since=started,
            deadline=self._deadline(started),
            unreachable_timeout=self.unreachable_timeout,
        )
        self.defer(trigger=trigger, method_name="execute_admitted")

    def make_watch(self, jobs: Mapping[str, KnownJob], **options: Any) -> WorkWatch:
        """The blocking wait, which also renews the job's lease."""
        return super().make_watch(jobs, owner_lease=self.owner_lease, **options)

    def make_trigger(self, work: RemoteWork, started: float) -> TitanJobTrigger:
        """The trigger of one job.

        :param started: unix time at which the task began
        """
        from titan_provider.triggers.job import TitanJobTrigger  # not while DAG files are parsed

        placement, run = self.placement_timeout, work.record.run
        trigger = TitanJobTrigger(
            titan_conn_id=self.titan_conn_id,
            job_id=run.job_id,
            nonce=run.nonce,
            requirement=self.requirement,
            poll_interval=self.poll_interval,
            deadline=self._deadline(started),
            # Not from the task's start, because the wait for admission may have been long.
            placement_deadline=None if placement is None else time.time() + placement,
            unreachable_timeout=self.unreachable_timeout,
            cancel_on_kill=self.cancel_on_kill,
            owner_lease=self.owner_lease,
            master=run.master or work.client.config.address,
        )
        if self.env:
            work.client.store_put(trigger.log_key, LogCursor(env=env_texts(self.env)).to_text())
        return trigger

    def take_results(self, work: RemoteWork, *, log_shown: bool) -> Any:
        """The job's result.

        :param log_shown: whether the task log has the job's whole output
        """
        (report,) = work.results().values()
        self.lineage_reports = (report,)
        if last := describe_progress(report.progress):
            self.log.info("Progress at the end: %s", last)
        if report.state.is_success:
            self.log.info("%s", report.describe())
            for name, left in report.outputs.items() if self.do_xcom_push else ():
                work.push(
                    name, [ref.to_json() for ref in left] if isinstance(left, tuple) else left.to_json()
                )
            return received(report)
        for_good = report.exit_code is not None and report.exit_code in self.no_retry_exit_codes
        kind = TitanJobFailedForGood if for_good else TitanJobFailed
        raise kind(report, report.log_tail, log_shown)
