"""A DAG of jobs: the checks that a master does not make, and the order of the jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from titan_sdk.errors import InvalidDag
from titan_sdk.model import rules
from titan_sdk.model.job import TitanJob

__all__ = ["order_jobs", "outside_parents", "upstream_failures"]


def order_jobs(name: str, jobs: Iterable[TitanJob]) -> tuple[TitanJob, ...]:
    """The jobs, parents before children.

    Raises:
        InvalidDag: there are no jobs, an id is used twice, or there is a cycle. A real master would answer
            ``DAG_ACCEPTED`` to each (section 4.1).
    """
    if not _is_name(name):
        raise InvalidDag(f"the DAG's name {name!r} is not a text, or empty; give it a name")
    given = tuple(jobs)
    if not given:
        raise InvalidDag(f"DAG {name!r} has no jobs")
    by_id: dict[str, TitanJob] = {}
    for job in given:
        if not isinstance(job, TitanJob):
            raise InvalidDag(f"DAG {name!r}: {job!r} is not a TitanJob")
        if job.full_id in by_id:
            raise InvalidDag(
                f"DAG {name!r}: the id {job.job_id!r} is used twice; ids with and without DAG- are the same"
            )
        by_id[job.full_id] = job
    graph = {full_id: [p for p in job.parent_ids if p in by_id] for full_id, job in by_id.items()}
    try:
        ordered = list(TopologicalSorter(graph).static_order())
    except CycleError as exc:
        path = " -> ".join(rules.short_id(node) for node in reversed(exc.args[1]))
        raise InvalidDag(f"DAG {name!r} has a cycle: {path}; remove one of these parents") from exc
    return tuple(by_id[full_id] for full_id in ordered)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def outside_parents(jobs: Sequence[TitanJob]) -> dict[str, tuple[str, ...]]:
    """The parents that are not among the jobs, each with the ids of its children."""
    inside = {job.full_id for job in jobs}
    found: dict[str, list[str]] = {}
    for job in jobs:
        for parent in job.parent_ids:
            if parent not in inside:
                found.setdefault(parent, []).append(job.job_id)
    return {parent: tuple(children) for parent, children in found.items()}


def upstream_failures(
    parents: dict[str, tuple[str, ...]], failed: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """For each job below a failed one, the failed jobs that it waits for: only those that are not below another failure.

    Such a job never ran. A real master leaves it PENDING for ever (section 6), the bundled one makes it DEAD, so its end
    is derived from the graph. Keys and values are full ids; ``parents`` maps each job to its parents.
    """
    bad = set(failed)
    blocked: dict[str, tuple[str, ...]] = {}
    order = TopologicalSorter(
        {job: [p for p in ps if p in parents] for job, ps in parents.items()}
    ).static_order()
    for job in order:
        causes: dict[str, None] = {}
        for parent in parents[job]:
            if parent in blocked:
                causes.update(dict.fromkeys(blocked[parent]))
            elif parent in bad:
                causes[parent] = None
        if causes:
            blocked[job] = tuple(causes)
    return blocked
