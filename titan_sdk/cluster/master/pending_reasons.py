"""The reason why an unfinished job does not run yet, as a sentence for JOB_INFO."""

from __future__ import annotations

from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.master.scheduler import Job, Phase
from titan_sdk.model.status import JobStatus

__all__ = ["pending_reason"]


def pending_reason(master: Master, job: Job) -> str | None:
    """The reason why the job waits, or ``None`` if it runs."""
    tag = job.spec.tag
    if job.phase is Phase.WAITING:
        return f"waits for {job.missing} of its parents"
    if job.phase is Phase.DELAYED:
        return f"is delayed until {job.spec.due:.3f}"
    if job.phase is Phase.RUNNING and job.status is JobStatus.PENDING:
        return master.engine.problem or _not_begun(master, tag)
    if job.phase is not Phase.READY:
        return None
    if master.pools is not None:
        return master.engine.problem or master.pools.why_waiting(tag)
    if tag not in master.state.scheduler.workers.by_tag:
        return f"no worker has the tag {tag!r}"
    return f"every worker with the tag {tag!r} is busy"


def _not_begun(master: Master, tag: str) -> str:
    pools, given = master.pools, "was given to the Ray cluster, which has not started it yet"
    return given if pools is None or pools.has_place_for(tag) else f"{given}; {pools.why_waiting(tag)}"
