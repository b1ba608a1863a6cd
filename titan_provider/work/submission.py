"""The submit, once: an id that is kept before it is used, and a later try that asks before it submits."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from titan_provider.compat import dag_run_clear_number, dag_run_started
from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.work.joblog import Logger
from titan_provider.work.jobs import NamedJob
from titan_provider.work.plan import DagRecord, Decision, KnownJob, Plan, Record, decide, make_plan
from titan_provider.work.records import Memory
from titan_provider.work.waiting import outlast_store
from titan_sdk import JobStatus, NotFound, TitanClient, TitanError, TitanJob
from titan_sdk.xcom import TaskCoordinate

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = [
    "DagSubmission",
    "Elsewhere",
    "Submission",
    "make_job_id",
    "master_of",
    "new_record",
    "settled_status",
    "wait_stopped",
]

T = TypeVar("T")


def new_record(context: Context, start: str | None = None) -> Record:
    """What this try would keep of a job of its own, under an id that nobody has used.

    :param context: the task's context
    :param start: beginning of the id, in place of dag, task and run
    """
    ti = context["ti"]
    task = TaskCoordinate.of(ti)
    names = (start, "", "") if start else (task.dag_id, task.task_id, task.run_id)
    return Record(
        job_id=make_job_id(*names, map_index=task.map_index, try_number=ti.try_number),
        nonce=secrets.token_hex(8),
        max_tries=ti.max_tries,
        clear_number=dag_run_clear_number(context),
        run_started=dag_run_started(context),
    )


def settled_status(client: TitanClient, job_id: str, nonce: str) -> JobStatus:
    """How an earlier try's job stands. One that its master does not know never starts from here on.

    A real master loses the status of a job that it took while its store was away, and runs it all the same.

    :raises StoreUnavailable: the master's store does not answer, so nobody knows
    """
    status = client.get_job_status(job_id, nonce=nonce)
    if status is not JobStatus.UNKNOWN:
        return status
    try:
        return client.cancel_job(job_id, nonce=nonce or None)
    except NotFound:
        return status


@dataclass(frozen=True, slots=True)
class Submission:
    """How one try gets the job that it waits for.

    :param memory: what outlives the try, or None for a task that remembers nothing
    :param build: makes the job of an id; raises when the job cannot be sent
    :param admit: returns when the job of that id may be submitted
    :param about_to_submit: told the record before anything is sent or waited for, so that a kill can cancel the job
    :param elsewhere: reaches the master of an earlier try, if the connection names another one now
    :param unreachable_timeout: seconds for which the master's store may be away
    """

    client: TitanClient
    memory: Memory | None
    build: Callable[[str], TitanJob]
    admit: Callable[[str], None]
    about_to_submit: Callable[[Record], None]
    log: Logger
    elsewhere: Elsewhere
    unreachable_timeout: float = 300.0

    def obtain(self, record: Record) -> Record:
        """The record of the job to wait for, at the master that the record names.

        It is an earlier try's job where that is still the right one, else a new one.

        :param record: what this try would keep
        """
        record = replace(record, master=self.client.config.address)
        old = self._outlast(self.memory.recall) if self.memory is not None else None
        found = None if old is None else self._outlast(lambda: self._goes_on(old, record))
        if found is not None:
            self.about_to_submit(found)
            return found
        job = self.build(record.job_id)
        self.admit(record.job_id)
        if self.memory is not None:
            self.memory.keep(record)
        self.about_to_submit(record)
        self._outlast(lambda: self.client.submit_job(job, nonce=record.nonce))
        if self.memory is not None:
            self.memory.keep(record.confirmed())
        self.log.info("Submitted job %s, to run on a worker tagged %s", record.job_id, job.requirement)
        return record

    def _goes_on(self, old: Record, new: Record) -> Record | None:
        with ExitStack() as stack:
            client = master_of(
                self.client,
                self.elsewhere,
                old,
                [old.job_id],
                same_run=old.same_run(new),
                log=self.log,
                stack=stack,
            )
            return None if client is None else self._decide(client, old, new)

    def _decide(self, client: TitanClient, old: Record, new: Record) -> Record | None:
        status = settled_status(client, old.job_id, old.nonce)
        decision = decide(old, new, status)
        if decision is Decision.ATTACH:
            words = "An earlier try of this task submitted job %s, which is %s; waiting for it"
            self.log.info(words, old.job_id, status)
            return replace(old, master=client.config.address)
        if decision is Decision.CANCEL_AND_SUBMIT:
            words = "Job %s of an earlier run of this task is still %s; cancelling it"
            self.log.warning(words, old.job_id, status)
            try:
                client.cancel_job(old.job_id, nonce=old.nonce)
            except NotFound:
                pass  # its master lost it in this moment: what was wanted
        wait_stopped(client, {old.job_id: old.nonce}, self.log)
        return None

    def _outlast(self, request: Callable[[], T]) -> T:
        return outlast_store(request, self.unreachable_timeout, self.log)


Elsewhere = Callable[[str], TitanClient]
"""Makes a client of the master at an address; all other settings are those of the task's connection."""


def master_of(
    client: TitanClient,
    elsewhere: Elsewhere,
    old: Record,
    job_ids: Sequence[str],
    *,
    same_run: bool,
    log: Logger,
    stack: ExitStack,
) -> TitanClient | None:
    """A client of the master that an earlier try submitted its jobs to; None where that is given up.

    A master that is reached by another name now knows the jobs, and is asked under the new name.

    :param client: of the master that the connection names now
    :param job_ids: what the earlier try submitted
    :param same_run: whether no clear lies between the two tries
    :param stack: closes the client that is opened for another master
    :raises TitanMasterUnreachable: the recorded master does not answer, and nobody has asked for another run
    """
    here = client.config.address
    if old.master in ("", here) or _knows(client, job_ids):
        return client
    there = stack.enter_context(elsewhere(old.master))
    what = f"Job {job_ids[0]!r} of an earlier try of this task" + (", and others," if job_ids[1:] else "")
    try:
        is_known = _knows(there, job_ids)
    except TitanError as exc:
        if same_run:
            raise TitanMasterUnreachable(
                f"{what} was submitted to the master at {old.master}, which does not answer, and may be running there; "
                f"the connection names {here} now. Nothing was submitted again: let that master answer for a retry to "
                f"find the job, or clear the task to run it on {here}: {exc}"
            ) from exc
        log.warning(
            "%s was submitted to the master at %s, which does not answer: it may still be running there",
            what,
            old.master,
        )
        return None
    if is_known:
        log.warning(
            "%s was submitted to the master at %s, while the connection names %s now; asking the former about it",
            what,
            old.master,
            here,
        )
    return there


def _knows(client: TitanClient, job_ids: Sequence[str]) -> bool:
    return any(status is not JobStatus.UNKNOWN for status in client.get_job_statuses(list(job_ids)).values())


def wait_stopped(client: TitanClient, jobs: Mapping[str, str], log: Logger) -> None:
    """Return when nothing is left of an earlier run: a cancelled script has its ``cancel_grace``, and two runs of one task
    must not meet.

    :param jobs: nonces of the submissions, by job id
    """
    for job_id, nonce in jobs.items():
        try:
            if client.wait_stopped(job_id, 0.0, nonce=nonce):
                continue
            log.info(
                "Job %s of an earlier try was told to end and is doing so; waiting until nothing of it is left",
                job_id,
            )
            client.wait_stopped(job_id, nonce=nonce)
        except NotFound:
            pass  # its master does not know it: nothing of it is there


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


# Titan's ids allow 200 characters, and `DAG-` is put in front of them; logs and dashboards are easier to
# read with less. The unique part is never cut.
_MAX = 180
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def make_job_id(dag_id: str, task_id: str, run_id: str, map_index: int = -1, try_number: int = 1) -> str:
    """A new id for one submission of one task instance: ``dag.task.run.m3.t1-<10 hex digits>``.

    Never the same twice: an id that was cancelled, or belongs to a deleted DAG run, must not be met again.

    :param map_index: -1 for a task that is not mapped
    """
    readable = [dag_id, task_id, run_id]
    unique = hashlib.sha256(
        "\0".join([*readable, str(map_index), secrets.token_hex(8)]).encode()
    ).hexdigest()[:10]
    tail = f".m{map_index}" if map_index >= 0 else ""
    tail += f".t{try_number}-{unique}"
    head = ".".join(_UNSAFE.sub("_", part).strip("_.-") or "_" for part in readable)
    return head[: _MAX - len(tail)] + tail
