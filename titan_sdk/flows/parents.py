"""Parents outside the submitted DAG: what a master does with them depends on which master it is (section 4.6)."""

from __future__ import annotations

from collections.abc import Sequence

from titan_sdk.errors import InvalidDag
from titan_sdk.flows.core import Flow, ask
from titan_sdk.model.dag import outside_parents
from titan_sdk.model.job import TitanJob
from titan_sdk.model.stats import ServerInfo
from titan_sdk.model.status import JobStatus
from titan_sdk.wire import calls

__all__ = ["settle_outside_parents"]


def settle_outside_parents(
    info: ServerInfo, name: str, jobs: Sequence[TitanJob]
) -> Flow[dict[str, tuple[str, ...]]]:
    """The parents to send for each job (full ids).

    The bundled master honours parents of earlier submissions. A real one waits for ever for a parent that has
    ended already, so there a completed parent is left out, and an unfinished one is refused: it may end
    before the child is registered.

    Raises:
        InvalidDag: a parent is neither in this DAG nor known to the master, or can no longer be waited for.
    """
    leave_out: set[str] = set()
    for parent, children in outside_parents(jobs).items():
        state = yield from ask(calls.job_status(parent))
        about = {"job_id": children[0], "field": "parents"}
        named = (
            f"DAG {name!r}: job {children[0]!r} names the parent {parent.removeprefix('DAG-')!r}, which is"
        )
        if state is JobStatus.UNKNOWN:
            raise InvalidDag(
                f"{named} neither in this DAG nor known to the master; add the job or correct the id", **about
            )
        if state in {JobStatus.DEAD, JobStatus.CANCELLED}:
            raise InvalidDag(
                f"{named} {state}, so the job would never run; run the parent again under a new id", **about
            )
        if info.has("completed_parents"):
            continue
        if state is not JobStatus.COMPLETED:
            raise InvalidDag(
                f"{named} in another DAG and still {state}; a real Titan can miss its end. "
                "Wait for it first, or submit both jobs in one DAG",
                **about,
            )
        leave_out.add(parent)
    return {job.full_id: tuple(p for p in job.parent_ids if p not in leave_out) for job in jobs}
