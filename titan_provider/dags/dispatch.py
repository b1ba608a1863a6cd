"""The submit of several jobs, once: the ids are kept before they are used; see ``operators/submission.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from titan_provider.dags.jobs import NamedJob
from titan_provider.dags.plan import DagRecord, KnownJob, Plan, make_plan
from titan_provider.dispatch import Record
from titan_provider.job_ids import make_job_id
from titan_provider.joblog import Logger
from titan_provider.operators.masters import Elsewhere, master_of, wait_stopped
from titan_provider.operators.memory import Memory
from titan_provider.operators.submission import settled_status
from titan_provider.waiting import outlast_store
from titan_sdk import JobStatus, NotFound, TitanClient
from titan_sdk.xcom import TaskCoordinate

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["DagSubmission"]

T = TypeVar("T")


@dataclass(frozen=True)
class DagSubmission:
    """How one try gets the jobs that it waits for.

    :param name: of the Titan DAG
    :param memory: what outlives the try, or None for a task that remembers nothing
    :param durable: look for the jobs of an earlier try
    :param about_to_submit: told the record before anything is sent or waited for, so that a kill can cancel the jobs
    :param elsewhere: reaches the master of an earlier try, if the connection names another one now
    :param unreachable_timeout: seconds for which the master's store may be away
    """

    client: TitanClient
    name: str
    memory: Memory | None
    durable: bool
    about_to_submit: Callable[[DagRecord], None]
    log: Logger
    elsewhere: Elsewhere
    unreachable_timeout: float = 300.0

    def obtain(self, context: Context, run: Record, jobs: Sequence[NamedJob]) -> DagRecord:
        """The record of the jobs to wait for, at the master that its run names.

        :param context: the task's context
        :param run: what this try would keep of itself
        :param jobs: what its user wants
        """
        run = replace(run, master=self.client.config.address)
        old = self._recalled()
        plan, master = Plan(), ""
        if old is not None:
            plan, master = self._outlast(partial(self._plan, old, run, jobs))
        if plan.attach and old is not None:
            self.log.info("An earlier try of this task submitted these jobs; waiting for them: %s", old.ids)
            old = replace(old, run=replace(old.run, master=master))
            self.about_to_submit(old)
            return old
        record = self._new_record(context, run, jobs, plan)
        new = [
            job.build(lambda name: record.ids.get(name, name)) for job in jobs if job.name in record.open_jobs
        ]
        if self.memory is not None:
            self.memory.save(record.to_json(), f"DAG {self.name!r}")
        self.about_to_submit(record)
        for name in plan.keep or {}:
            self.log.info("Job %s completed in an earlier try and is not run again", name)
        if new:
            self._outlast(lambda: self.client.submit_dag(self.name, new, nonce=run.nonce))
            self.log.info("Submitted %s jobs as Titan DAG %s, run %s", len(new), self.name, run.nonce)
        for name, job in record.open_jobs.items():
            self.log.info("Job %s has the id %s", name, job.job_id)
        return record

    def _recalled(self) -> DagRecord | None:
        if self.memory is None or not self.durable:
            return None
        return DagRecord.from_json(self._outlast(self.memory.load))

    def _outlast(self, request: Callable[[], T]) -> T:
        return outlast_store(request, self.unreachable_timeout, self.log)

    def _plan(self, old: DagRecord, run: Record, jobs: Sequence[NamedJob]) -> tuple[Plan, str]:
        """What to do, and the address of the jobs' master. Jobs that must not go on have been cancelled."""
        ids = list(old.ids.values())
        with ExitStack() as stack:
            client = master_of(
                self.client,
                self.elsewhere,
                old.run,
                ids,
                same_run=old.run.same_run(run),
                log=self.log,
                stack=stack,
            )
            if client is None:
                return Plan(), ""
            by_id = _settled_statuses(client, old)
            plan = make_plan(old, run, jobs, {name: by_id[job_id] for name, job_id in old.ids.items()})
            if not plan.attach:
                self._cancel(client, plan)
                kept = plan.keep or {}
                wait_stopped(
                    client, {job.job_id: job.nonce for n, job in old.jobs.items() if n not in kept}, self.log
                )
            if plan.keep and client is not self.client:
                # Their results are there, and a task takes its results from one master.
                self.log.warning(
                    "Jobs that completed at the master at %s are run again at %s, which the connection names now: %s",
                    client.config.address,
                    self.client.config.address,
                    ", ".join(plan.keep),
                )
                plan = replace(plan, keep=None)
            return plan, client.config.address

    def _cancel(self, client: TitanClient, plan: Plan) -> None:
        for job_id in plan.cancel:
            self.log.warning("Job %s of an earlier run of this task still goes on; cancelling it", job_id)
            try:
                client.cancel_job(job_id)
            except NotFound:
                pass  # its master lost it in this moment: what was wanted

    def _new_record(self, context: Context, run: Record, jobs: Sequence[NamedJob], plan: Plan) -> DagRecord:
        task = TaskCoordinate.of(context["ti"])
        names = {job.name for job in jobs}
        known: dict[str, KnownJob] = {}
        for job in jobs:
            kept = (plan.keep or {}).get(job.name)
            job_id = make_job_id(
                task.dag_id,
                f"{task.task_id}.{job.name}",
                task.run_id,
                map_index=task.map_index,
                try_number=context["ti"].try_number,
            )
            known[job.name] = kept or KnownJob(
                job_id=job_id,
                nonce=run.nonce if job.fields.get("runtime", True) else "",
                mark=job.mark,
                parents=tuple(parent for parent in job.parents if parent in names),
                requirement=job.requirement,
            )
        return DagRecord(replace(run, submitted=True), known)


def _settled_statuses(client: TitanClient, old: DagRecord) -> dict[str, JobStatus]:
    nonces = {job.job_id: job.nonce for job in old.jobs.values()}
    states = client.get_job_statuses(list(nonces), nonces=nonces)
    for job_id, status in states.items():
        if status is JobStatus.UNKNOWN:
            told = settled_status(client, job_id, nonces[job_id])
            # What was cancelled just now is as good as never submitted.
            states[job_id] = status if told is JobStatus.CANCELLED else told
    return states
