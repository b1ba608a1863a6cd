"""The jobs of one task on Titan: obtained, watched, asked for their results, cancelled. A job is a DAG of one.

Dispatched once: the ids are kept before they are used, and a later try asks before it submits. ``work/plan.py`` decides.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from titan_provider.compat import AirflowException, dag_run_clear_number, dag_run_started
from titan_provider.events import JobEvent
from titan_provider.exceptions import TitanMasterUnreachable, TitanPlacementTimedOut
from titan_provider.hooks.titan import TitanHook
from titan_provider.work.cancel import Cancellation, announce_try
from titan_provider.work.joblog import Logger
from titan_provider.work.jobs import NamedJob
from titan_provider.work.plan import KnownJob, Plan, Record, WorkRecord, children_first, make_plan
from titan_provider.work.records import record_store
from titan_provider.work.waiting import OwnClient, ends_soon, jittered, run_blocking
from titan_provider.work.watch import WorkWatch
from titan_sdk import JobReport, JobStatus, NotFound, StoreUnavailable, TitanClient, TitanError, TitanJob
from titan_sdk.xcom import TaskCoordinate

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["RemoteWork", "make_job_id", "new_record"]

T = TypeVar("T")

_FIRST_PAUSE, _LAST_PAUSE = 0.5, 5.0


class RemoteWork:
    """The jobs of one try of a task. Used in a ``with`` block, which closes its clients.

    :param context: the task's context
    :param hook: of the master to ask
    :param cancellation: cancels the jobs when the task is killed; told of them before they are submitted
    :param on_kill: the operator's, called again for a kill that came before the master knew the jobs
    :param dag_name: name of the Titan DAG; None for a task of one job, which is no DAG on the master
    :param durable: look for the jobs of an earlier try
    :param keeps_record: whether later tries, or the end of a deferral, find a record of the jobs
    :param unreachable_timeout: seconds for which the master may be silent, or its store away
    """

    kind = "job"
    """Its name in the log."""
    has_nonces = True
    """Whether the master is asked about a certain submission of an id, which the runtime of a job knows."""

    def __init__(
        self,
        context: Context,
        hook: TitanHook,
        log: Logger,
        cancellation: Cancellation,
        *,
        on_kill: Callable[[], None],
        dag_name: str | None = None,
        durable: bool = True,
        keeps_record: bool = True,
        unreachable_timeout: float = 300.0,
    ) -> None:
        self._context = context
        self._hook = hook
        self._log = log
        self._cancellation = cancellation
        self._on_kill = on_kill
        self._dag_name = dag_name
        self._durable = durable
        self._keeps_record = keeps_record
        self._unreachable_timeout = unreachable_timeout
        self._stack = ExitStack()
        self._record: WorkRecord | None = None
        self._client: TitanClient | None = None

    def __enter__(self) -> Self:
        self._cancellation.connect(self._hook.get_config(), self._context["ti"].try_number)
        self._client = self._stack.enter_context(self._hook.get_conn())
        self._store = record_store(self._context, self._client)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def client(self) -> TitanClient:
        """A client of the master that has the jobs."""
        assert self._client is not None, "used in a with block"
        return self._client

    @property
    def max_unfinished(self) -> int | None:
        """The connection's limit of unfinished jobs per tag; None where it sets none."""
        return self._hook.get_max_unfinished()

    def push(self, key: str, value: Any) -> None:
        """An XCom of the task, beside its own."""
        self._context["ti"].xcom_push(key=key, value=value)

    @property
    def record(self) -> WorkRecord:
        """The jobs, once they are obtained."""
        assert self._record is not None, "after obtain() or resume()"
        return self._record

    # -- obtain ---------------------------------------------------------------------------------------------

    def obtain(
        self, run: Record, jobs: Sequence[NamedJob], admit: Callable[[str], None] | None = None
    ) -> WorkRecord:
        """The record of the jobs to wait for: those of an earlier try where they still count, else new ones.

        :param run: the record of this try
        :param jobs: as the task's author wants them; refused before anything is sent where they make no sense
        :param admit: returns when the job with that id may be submitted
        """
        try:
            self._record = self._obtain(run, jobs, admit)
        finally:
            if self._cancellation.killed:
                self._on_kill()
        if (there := self._hook.at(self.record.run.master)) is not self._hook:
            self._client = self._stack.enter_context(there.get_conn())
        return self.record

    def recall(self) -> WorkRecord | None:
        """The record that this try or an earlier one has kept, or None."""
        return self._read(self._store.load()) if self._keeps_record else None

    def resume(self, fired: JobEvent) -> bool:
        """Find the jobs of a task that its trigger resumed; whether the trigger told of these very jobs.

        A cleared task's old trigger may fire in its last moment, and SQLite gives its number to the new one.

        :param fired: the trigger's event
        """
        found = self.recall()
        if found is None and self._dag_name is not None:
            raise AirflowException(
                "the record of this task's jobs is gone, so their results cannot be told; clear the task"
            )
        told = set(fired.statuses)
        if found is None:
            (job_id,) = told
            found = WorkRecord.of_one(Record(job_id, "", 0, 0))
        is_about_these = {job.job_id for job in found.open_jobs.values()} == told
        if not is_about_these:
            self._log.info("A trigger told of other jobs than this try's, which are %s", found.ids)
        self._track(found.at(fired.master) if is_about_these else found)
        return is_about_these

    def _obtain(
        self, run: Record, jobs: Sequence[NamedJob], admit: Callable[[str], None] | None
    ) -> WorkRecord:
        run = replace(run, master=self.client.config.address)
        old = self._outlast(self.recall) if self._durable else None
        plan, master = Plan(), ""
        if old is not None:
            plan, master = self._outlast(partial(self._plan, old, run, jobs))
        if plan.attach and old is not None:
            self._log.info(
                "An earlier try of this task submitted %s; waiting for that", ", ".join(old.ids.values())
            )
            self._track(old.at(master), announce=True)
            return old.at(master)
        record = self._new_record(run, jobs, plan)
        new = [job.build(record.ids) for job in jobs if job.name in record.open_jobs]
        if admit is not None:
            admit(run.job_id)
        if self._keeps_record:
            self._store.save(self._write(record), self._what(record))
        self._track(record)
        for name in plan.keep or {}:
            self._log.info("Job %s completed in an earlier try and is not run again", name)
        if old is not None and not old.run.same_run(run):
            for job in jobs:
                key = job.fields.get("checkpoint_key")
                if (
                    job.clears_checkpoint
                    and key
                    and self._outlast(partial(self.client.remove_checkpoint, key))
                ):
                    self._log.info(
                        "The task was cleared: its checkpoint is removed, and the job starts from nothing"
                    )
        if new:
            self._outlast(lambda: self._submit(record, new))
        return record

    def _track(self, record: WorkRecord, *, announce: bool = False) -> None:
        """From now on a kill cancels these jobs."""
        self._record = record
        there, try_number = self._hook.at(record.run.master), self._context["ti"].try_number
        job_ids = list(children_first(record.jobs).values())
        if there is not self._hook:
            self._cancellation.connect(there.get_config(), try_number)
        self._cancellation.track(job_ids)
        if announce:
            with there.get_conn() as client:
                announce_try(client, job_ids[0], try_number)

    def _submit(self, record: WorkRecord, jobs: Sequence[TitanJob]) -> None:
        self.client.submit_dag(self._dag_name or record.run.job_id, jobs, nonce=record.run.nonce)
        if self._dag_name is None:
            (job,) = jobs
            self._log.info(
                "Submitted %s %s, to run on a worker tagged %s", self.kind, job.job_id, job.requirement
            )
            return
        words = "Submitted %s jobs as Titan DAG %s, run %s"
        self._log.info(words, len(jobs), self._dag_name, record.run.nonce)
        for name, known in record.open_jobs.items():
            self._log.info("Job %s has the id %s", name, known.job_id)

    def _new_record(self, run: Record, jobs: Sequence[NamedJob], plan: Plan) -> WorkRecord:
        names = {job.name for job in jobs}
        known = {
            job.name: (plan.keep or {}).get(job.name)
            or KnownJob(
                job_id=run.job_id if self._dag_name is None else self._id_of(job.name),
                nonce=run.nonce if job.has_nonce else "",
                mark=job.mark,
                parents=tuple(parent for parent in job.parents if parent in names),
                requirement=job.requirement,
            )
            for job in jobs
        }
        return WorkRecord(run, known)

    def _id_of(self, name: str) -> str:
        ti = self._context["ti"]
        task = TaskCoordinate.of(ti)
        names = (task.dag_id, f"{task.task_id}.{name}", task.run_id)
        return make_job_id(*names, map_index=task.map_index, try_number=ti.try_number)

    # -- an earlier try -------------------------------------------------------------------------------------

    def _plan(self, old: WorkRecord, run: Record, jobs: Sequence[NamedJob]) -> tuple[Plan, str]:
        """The plan, and the address of the old jobs' master. Jobs that must not go on have ended by then."""
        with ExitStack() as stack:
            client = self._master_of(old, old.run.same_run(run), stack)
            if client is None:
                return Plan(), ""
            statuses = self._settled_statuses(client, old)
            plan = make_plan(old, run, jobs, statuses)
            if not plan.attach:
                kept = plan.keep or {}
                gone = {job.job_id: job for name, job in old.jobs.items() if name not in kept}
                self._end(client, [gone[job_id] for job_id in plan.cancel], gone)
            if plan.keep and client is not self.client:
                # Their results are there, and a task takes its results from one master.
                self._log.warning(
                    "Jobs that completed at the master at %s are run again at %s, which the connection names now: %s",
                    client.config.address,
                    self.client.config.address,
                    ", ".join(plan.keep),
                )
                plan = replace(plan, keep=None)
            return plan, client.config.address

    def _master_of(self, old: WorkRecord, same_run: bool, stack: ExitStack) -> TitanClient | None:
        """A client of the master that an earlier try submitted its jobs to; None where that is given up.

        A master that has another name now knows the jobs, and is asked under the new name.

        :param same_run: whether no clear lies between the two tries
        :param stack: closes the client that is opened for another master
        :raises TitanMasterUnreachable: the recorded master does not answer, and nobody has asked for another run
        """
        here, job_ids = self.client.config.address, list(old.ids.values())
        if old.run.master in ("", here) or _knows(self.client, job_ids):
            return self.client
        there = stack.enter_context(self._hook.at(old.run.master).get_conn())
        what = f"Job {job_ids[0]!r} of an earlier try of this task" + (", and others," if job_ids[1:] else "")
        try:
            is_known = _knows(there, job_ids)
        except TitanError as exc:
            if same_run:
                raise TitanMasterUnreachable(
                    f"{what} was submitted to the master at {old.run.master}, which does not answer, and may be "
                    f"running there; the connection names {here} now. Nothing was submitted again: let that master "
                    f"answer for a retry to find the job, or clear the task to run it on {here}: {exc}"
                ) from exc
            self._log.warning(
                "%s was submitted to the master at %s, which does not answer: it may still be running there",
                what,
                old.run.master,
            )
            return None
        if is_known:
            self._log.warning(
                "%s was submitted to the master at %s, while the connection names %s now; asking the former about it",
                what,
                old.run.master,
                here,
            )
        return there

    def _settled_statuses(self, client: TitanClient, old: WorkRecord) -> dict[str, JobStatus]:
        """The states of an earlier try's jobs, by name. A job that its master does not know never starts from here on.

        A real master loses the status of a job that it took while its store was away, and runs it all the same.

        :raises StoreUnavailable: the master's store does not answer, so nobody knows
        """
        nonces = {job.job_id: job.nonce for job in old.jobs.values()}
        states = client.get_job_statuses(list(nonces), nonces=nonces)
        for job_id, status in states.items():
            if status is JobStatus.UNKNOWN:
                try:
                    told = client.cancel_job(job_id, nonce=nonces[job_id] or None)
                except NotFound:
                    continue
                # A job that was cancelled just now is as good as never submitted.
                states[job_id] = status if told is JobStatus.CANCELLED else told
        return {name: states[job.job_id] for name, job in old.jobs.items()}

    def _end(self, client: TitanClient, going: Sequence[KnownJob], jobs: Mapping[str, KnownJob]) -> None:
        """Return when nothing is left of an earlier run: a cancelled script has its ``cancel_grace``, and two runs of one
        task must not meet.

        :param going: jobs that still go on, children first
        :param jobs: all that are not kept, by id
        """
        for job in going:
            self._log.warning(
                "Job %s of an earlier run of this task still goes on; cancelling it", job.job_id
            )
            try:
                client.cancel_job(job.job_id, nonce=job.nonce or None)
            except NotFound:
                pass  # its master lost it in this moment, which is as good
        for job_id, job in jobs.items():
            try:
                if client.wait_stopped(job_id, 0.0, nonce=job.nonce or None):
                    continue
                self._log.info(
                    "Job %s of an earlier try was told to end and is doing so; waiting until nothing of it is left",
                    job_id,
                )
                client.wait_stopped(job_id, nonce=job.nonce or None)
            except NotFound:
                pass  # nothing of it is there

    # -- watch, results, cancel -----------------------------------------------------------------------------

    def ends_soon(self) -> bool:
        """Whether all jobs have ended within about a second; not worth a deferral then."""
        nonces = {job.job_id: job.nonce for job in self.record.open_jobs.values()}
        return ends_soon(self.client, nonces)

    def watch(self, watch: WorkWatch) -> None:
        """Return when nothing more can happen to the jobs; blocks.

        :raises TitanPlacementTimedOut: a job found no worker in time; all have been told to end
        """
        try:
            run_blocking(watch.run(OwnClient(self.client, self._log)))
        except TitanPlacementTimedOut:
            self.cancel()
            raise

    def results(self) -> dict[str, JobReport]:
        """A report of each job, by name."""
        return {
            name: self.client.job_report(job.job_id, nonce=job.nonce or None)
            for name, job in self.record.jobs.items()
        }

    def cancel(self) -> None:
        """Cancel the jobs, children first."""
        self._cancellation.cancel(self._log)

    def cancel_recorded(self) -> None:
        """Cancel the jobs that the task has recorded, if it has; no SIGKILL follows."""
        if (found := self.recall()) is not None:
            self._track(found)
            there = self._hook.at(found.run.master)
            self._cancellation.connect(there.get_config(), self._context["ti"].try_number, hasty=False)
            self.cancel()

    # -- its parts ------------------------------------------------------------------------------------------

    def _read(self, value: Any) -> WorkRecord | None:
        if self._dag_name is not None:
            return WorkRecord.from_json(value)
        run = Record.from_json(value)
        return None if run is None else WorkRecord.of_one(run if self.has_nonces else replace(run, nonce=""))

    def _write(self, record: WorkRecord) -> dict[str, Any]:
        return record.run.to_json() if self._dag_name is None else record.to_json()

    def _what(self, record: WorkRecord) -> str:
        return f"job {record.run.job_id!r}" if self._dag_name is None else f"DAG {self._dag_name!r}"

    def _outlast(self, request: Callable[[], T]) -> T:
        """The request's answer; repeated while the master's store does not answer, as nothing was carried out then.

        :raises TitanMasterUnreachable: it did not for ``unreachable_timeout``
        """
        end, pause = time.monotonic() + self._unreachable_timeout, _FIRST_PAUSE
        while True:
            try:
                return request()
            except StoreUnavailable as exc:
                left = end - time.monotonic()
                if left <= 0:
                    raise TitanMasterUnreachable(
                        f"the store behind the master was away for {self._unreachable_timeout:g} s: {exc}"
                    ) from exc
                if pause == _FIRST_PAUSE:
                    self._log.warning("The store behind the master is away; trying again: %s", exc)
            time.sleep(min(jittered(pause), left))
            pause = min(pause * 2, _LAST_PAUSE)


def new_record(context: Context, start: str | None = None) -> Record:
    """The record of this try, with a job id that nobody has used.

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


def _knows(client: TitanClient, job_ids: Sequence[str]) -> bool:
    return any(status is not JobStatus.UNKNOWN for status in client.get_job_statuses(list(job_ids)).values())


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
