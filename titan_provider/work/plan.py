"""Which jobs of a Titan DAG a try submits, and which of an earlier try's it goes on with. No I/O.

What tells a crash from a clear is what ``titan_provider/dispatch.py`` says. Besides, a job that has completed is not
run again by a retry or a clear, unless it or one of its parents has changed; only the clear of a task whose jobs have
*all* completed runs all of them again, as the clear of any succeeded task does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from titan_provider.dags.jobs import NamedJob
from titan_provider.dispatch import Record
from titan_sdk import JobStatus

__all__ = ["DagRecord", "KnownJob", "Plan", "blocked_jobs", "children_first", "make_plan"]

_VERSION = (
    "dag-1"  # not a number: a task that was a TitanJobOperator before may have left its own kind of record
)


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
class DagRecord:
    """What a task remembers of its jobs between tries."""

    run: Record
    """Of this try; its nonce names the submission."""
    jobs: Mapping[str, KnownJob]

    @classmethod
    def from_json(cls, value: object) -> DagRecord | None:
        """The record, or None where there is none or it is of another version.

        :param value: what was kept
        """
        if not isinstance(value, Mapping) or value.get("v") != _VERSION:
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
            "v": _VERSION,
            "run": self.run.to_json(),
            "jobs": {name: asdict(job) | {"parents": list(job.parents)} for name, job in self.jobs.items()},
        }

    @property
    def ids(self) -> dict[str, str]:
        return {name: job.job_id for name, job in self.jobs.items()}

    @property
    def open_jobs(self) -> dict[str, KnownJob]:
        """Those that this try submitted."""
        return {name: job for name, job in self.jobs.items() if not job.kept}


@dataclass(frozen=True)
class Plan:
    """What a try does."""

    attach: bool = False
    """Everything was submitted by a try that crashed: wait for it."""
    cancel: tuple[str, ...] = ()
    """Ids of an earlier try's jobs that must end first."""
    keep: Mapping[str, KnownJob] | None = None
    """Jobs that completed and count."""


def make_plan(
    old: DagRecord, run: Record, jobs: Sequence[NamedJob], statuses: Mapping[str, JobStatus]
) -> Plan:
    """What to do with the jobs that an earlier try recorded.

    :param run: what this try would record of itself
    :param jobs: what its user wants now
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
