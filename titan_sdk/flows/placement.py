"""Can any worker run these jobs? Asked before a real master gets one that none can (section 5.3, hazard 9)."""

from __future__ import annotations

from collections.abc import Sequence

from titan_sdk.errors import InvalidJob
from titan_sdk.flows.core import Flow
from titan_sdk.flows.server import cluster_stats
from titan_sdk.model.job import TitanJob
from titan_sdk.model.stats import ServerInfo

__all__ = ["check_placement"]


def check_placement(info: ServerInfo, jobs: Sequence[TitanJob]) -> Flow[None]:
    """Nothing, where every job's tag has a live worker, or where the master keeps waiting jobs out of others' way.

    Raises:
        InvalidJob: no live worker has the tag. A real master would let the job delay everybody's for as long as
            it is queued, and its tags are case-sensitive.
    """
    if info.has("strict_submit"):
        return
    stats = yield from cluster_stats()
    for job in jobs:
        if reason := stats.lacks_worker(job.requirement):
            stop = "" if reason.endswith("?") else "."
            raise InvalidJob(
                f"job {job.job_id!r}: requirement {job.requirement!r}: {reason}{stop} On a real Titan such a job would "
                "slow down every other one: correct the tag, or start such a worker first"
            )
