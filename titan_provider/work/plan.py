"""Dispatched once: the record that a task keeps of its jobs, and a later try's decision about them. No I/O.

The record outlives a try and a clear (``work/records.py``). A try that follows a crash differs from one that follows a
clear in two numbers:

* a crash leaves ``max_tries`` of the task instance and ``clear_number`` of the DAG run as they were;
* clearing a task that is not running sets ``max_tries`` to the tries so far plus its retries;
* clearing a running task leaves ``max_tries`` alone, but raises ``clear_number`` of its DAG run, as every clear does.

A DAG run that was deleted and made again under its old id has another start time. When another task of the run is
cleared, ``clear_number`` changes too. A crash at such a moment is then taken for a clear: the job is cancelled and
submitted anew rather than an old result returned.

Of several jobs, one that has completed is not run again by a retry or a clear, unless it or one of its parents has
changed; only the clear of a task whose jobs have *all* completed runs all of them again, as the clear of any succeeded
task does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from titan_provider.work.jobs import NamedJob
from titan_sdk import JobStatus

__all__ = ["ONLY", "KnownJob", "Plan", "Record", "WorkRecord", "blocked_jobs", "children_first", "make_plan"]

ONLY = ""
"""Name of a task's only job, which needs none; no id of another job is the same."""

# Not a number: a task that was a TitanJobOperator before may have left its own kind of record.
_SEVERAL = "dag-1"


@dataclass(frozen=True, slots=True)
class Record:
    """One try of a task, as it is kept for later tries."""

    job_id: str
    """The id of the task's one job; with several jobs, no job has it."""
    nonce: str
    max_tries: int
    clear_number: int
    run_started: str = ""
    master: str = ""
    """Address of the master that has it: in a later try the connection may name another one."""

    @classmethod
    def from_json(cls, value: object) -> Record | None:
        """The record, or None where there is none or it is of another version.

        :param value: as it was kept
        """
        if not isinstance(value, Mapping) or value.get("v") != 1:
            return None
        return cls(**{field.name: value[field.name] for field in fields(cls) if field.name in value})

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"v": 1}

    def same_run(self, other: Record) -> bool:
        """Whether no clear lies between the two tries.

        :param other: the record that this try would write
        """
        mine = (self.max_tries, self.clear_number, self.run_started)
        return mine == (other.max_tries, other.clear_number, other.run_started)


@dataclass(frozen=True)
class KnownJob:
    """One job as it was submitted."""

    job_id: str
    nonce: str
    mark: str
    parents: tuple[str, ...]
    """Names of its parents in the same task."""
    requirement: str = "GENERAL"
    kept: bool = False
    """Completed in an earlier try; not submitted by this one."""


@dataclass(frozen=True)
class WorkRecord:
    """The jobs of one try, as they are kept for later tries."""

    run: Record
    """The try; its nonce names the submission."""
    jobs: Mapping[str, KnownJob]

    @classmethod
    def of_one(cls, run: Record, requirement: str = "GENERAL") -> WorkRecord:
        """The record of a task of one job, which keeps :class:`Record` alone."""
        return cls(run, {ONLY: KnownJob(run.job_id, run.nonce, "", (), requirement)})

    @classmethod
    def from_json(cls, value: object) -> WorkRecord | None:
        """The record of several jobs, or None where there is none or it is of another version.

        :param value: as it was kept
        """
        if not isinstance(value, Mapping) or value.get("v") != _SEVERAL:
            return None
        run = Record.from_json(value["run"])
        if run is None:
            return None
        jobs = {
            name: KnownJob(**job | {"parents": tuple(job["parents"])}) for name, job in value["jobs"].items()
        }
        return cls(run, jobs)

    def to_json(self) -> dict[str, Any]:
        return {
            "v": _SEVERAL,
            "run": self.run.to_json(),
            "jobs": {name: asdict(job) | {"parents": list(job.parents)} for name, job in self.jobs.items()},
        }

    @property
    def ids(self) -> dict[str, str]:
        return {name: job.job_id for name, job in self.jobs.items()}

    @property
    def open_jobs(self) -> dict[str, KnownJob]:
        """The jobs that this try submitted."""
        return {name: job for name, job in self.jobs.items() if not job.kept}

    def at(self, master: str) -> WorkRecord:
        """The same jobs, at the master with that address."""
        return replace(self, run=replace(self.run, master=master))


@dataclass(frozen=True)
class Plan:
    """The decision of one try."""

    attach: bool = False
    """Everything was submitted by a try that crashed: wait for it."""
    cancel: tuple[str, ...] = ()
    """Ids of an earlier try's jobs that must end first."""
    keep: Mapping[str, KnownJob] | None = None
    """Jobs that completed and count."""


def make_plan(
    old: WorkRecord, run: Record, jobs: Sequence[NamedJob], statuses: Mapping[str, JobStatus]
) -> Plan:
    """Decide about the jobs that an earlier try recorded.

    :param run: the record of this try
    :param jobs: as the task's author wants them now
    :param statuses: the old jobs' states by the master, by name
    """
    unfinished = [
        name for name, status in statuses.items() if status in (JobStatus.PENDING, JobStatus.RUNNING)
    ]
    going = set(unfinished) - blocked_jobs(old.jobs, statuses)
    lost = any(status is JobStatus.UNKNOWN for status in statuses.values())
    done = all(status.is_success for status in statuses.values())
    same_run = old.run.same_run(run)
    if same_run and ((going and not lost) or done) and set(old.jobs) == {job.name for job in jobs}:
        return Plan(attach=True)
    cancel = tuple(job_id for name, job_id in children_first(old.jobs).items() if name in unfinished)
    if done and not same_run:
        return Plan(cancel=cancel, keep={})
    keep: dict[str, KnownJob] = {}
    by_name = {job.name: job for job in jobs}
    for name in _parents_first({job.name: job.parents for job in jobs}):
        job = by_name[name]
        known = old.jobs.get(job.name)
        inside = [parent for parent in job.parents if parent in by_name]
        if (
            known is not None
            and statuses[job.name].is_success
            and known.mark == job.mark
            and set(known.parents) == set(inside)
            and all(parent in keep for parent in inside)
        ):
            keep[job.name] = replace(known, kept=True)
    return Plan(cancel=cancel, keep=keep)


def blocked_jobs(jobs: Mapping[str, KnownJob], statuses: Mapping[str, JobStatus]) -> set[str]:
    """Names of the jobs that can never run, because something above them did not succeed.

    A real master leaves them PENDING for ever.
    """
    blocked: set[str] = set()
    failed = {name for name, status in statuses.items() if status.is_terminal and not status.is_success}
    while True:
        more = {
            name
            for name, job in jobs.items()
            if name not in blocked
            and not statuses[name].is_terminal
            and (failed | blocked) & set(job.parents)
        }
        if not more:
            return blocked
        blocked |= more


def children_first(jobs: Mapping[str, KnownJob]) -> dict[str, str]:
    """Ids by name, in the order in which to cancel: no child starts because its parent has just ended."""
    order = _parents_first({name: job.parents for name, job in jobs.items()})
    return {name: jobs[name].job_id for name in reversed(order)}


def _parents_first(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Names in order. Those in a circle are left out: a submit refuses them."""
    placed: list[str] = []
    waiting = list(parents)
    while waiting:
        ready = [name for name in waiting if all(p in placed or p not in parents for p in parents[name])]
        if not ready:
            break
        placed += ready
        waiting = [name for name in waiting if name not in ready]
    return placed
