"""What a task asks of its jobs in its own thread: how they stand a little later, and whether they end soon."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from titan_provider.waiting import Pace
from titan_sdk import JobStatus, TitanClient, TitanError

__all__ = ["end_soon", "statuses_after"]

SOON = 1.0
"""Seconds that a deferrable task waits by itself. A deferral costs more: two starts of a process, and a trigger."""


def statuses_after(
    client: TitanClient, seconds: float, job_ids: Sequence[str], nonces: Mapping[str, str] | None = None
) -> dict[str, JobStatus]:
    """How the jobs stand after that many seconds, or as soon as one of them has ended where the master tells that.

    :param nonces: names of the submissions, by job id
    """
    end = time.monotonic() + seconds
    while True:
        left = max(end - time.monotonic(), 0.0)
        if not client.server_info().has("wait"):
            time.sleep(left)
            left = 0.0
        states = client.get_job_statuses(job_ids, wait=left, nonces=nonces)
        # The master may answer before the time is over.
        if left == 0 or any(status.is_terminal or status is JobStatus.UNKNOWN for status in states.values()):
            return states


def end_soon(client: TitanClient, nonces: Mapping[str, str]) -> bool:
    """Whether all jobs have ended within about a second. False also where the master does not tell.

    :param nonces: names of the submissions, by job id
    """
    end, pace = time.monotonic() + SOON, Pace(SOON)
    waiting = list(nonces)
    try:
        is_told = client.server_info().has("wait")
        while waiting and (left := end - time.monotonic()) > 0:
            states = statuses_after(client, left if is_told else min(pace.next(), left), waiting, nonces)
            waiting = [job_id for job_id, status in states.items() if not status.is_terminal]
            if JobStatus.UNKNOWN in states.values():
                break
    except TitanError:
        return False
    return not waiting
