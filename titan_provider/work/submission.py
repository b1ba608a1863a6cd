"""The submit, once: an id that is kept before it is used, and a later try that asks before it submits."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from titan_provider.compat import dag_run_clear_number, dag_run_started
from titan_provider.dispatch import Decision, Record, decide
from titan_provider.job_ids import make_job_id
from titan_provider.joblog import Logger
from titan_provider.operators.masters import Elsewhere, master_of, wait_stopped
from titan_provider.operators.memory import Memory
from titan_provider.waiting import outlast_store
from titan_sdk import JobStatus, NotFound, TitanClient, TitanJob
from titan_sdk.xcom import TaskCoordinate

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["Submission", "new_record", "settled_status"]

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
