"""What the blocking and the asynchronous waits share: patience with a silent master, and why a job waits. No I/O."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.work.joblog import Logger
from titan_sdk import ClusterStats, JobStatus, StoreUnavailable, TitanClient, TitanError

__all__ = [
    "FIRST_LOOK",
    "LOG_CHUNKS",
    "PROGRESS_EVERY",
    "REASON_EVERY",
    "OwnerLease",
    "Pace",
    "Patience",
    "ProgressLines",
    "describe_progress",
    "end_soon",
    "jittered",
    "outlast_store",
    "statuses_after",
    "tell_wait",
    "why_waiting",
]

T = TypeVar("T")

REASON_EVERY = 10.0
"""Seconds between two looks at the cluster's numbers for a job that waits."""

PROGRESS_EVERY = 10.0
"""The longest pause between two looks at the progress of a job that runs."""

FIRST_LOOK = 0.1
"""Seconds between the first two looks at a job; later pauses are longer, up to its ``poll_interval``."""

GROWTH = 1.5
"""How much longer a pause is than the one before."""

LOG_CHUNKS = 8
"""Chunks of a job's log that are copied in one turn: 2 MiB at most."""

_LONGEST_PAUSE = 30.0


class OwnerLease:
    """When the owner's lease of a job has to be renewed.

    :param seconds: the lease's length; None where there is none
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.pause = math.inf if seconds is None else seconds / 4
        """The longest that its owner may sleep."""
        self._clock = clock
        self._next = clock()

    def is_due(self) -> bool:
        """Whether to renew now; asked again only after a while."""
        if self.pause == math.inf or self._clock() < self._next:
            return False
        self._next = self._clock() + self.pause
        return True


class Pace:
    """Pauses between two looks at a job: short at first, when most jobs end, and later up to a longest one.

    :param longest: seconds
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._pause = min(FIRST_LOOK, longest)

    def next(self) -> float:
        """Seconds until the next look."""
        pause, self._pause = self._pause, min(self._pause * GROWTH, self._longest)
        return jittered(pause)

    def restart(self) -> None:
        """Something happened to the job, so more may happen soon."""
        self._pause = min(FIRST_LOOK, self._longest)


class Patience:
    """How long status requests may fail in a row before a task gives up on a job that may well be running.

    :param seconds: the budget; it is full again after every success
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._since = 0.0

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, exc: TitanError) -> float:
        """Seconds to pause before asking again.

        :param exc: why the request failed
        :raises TitanMasterUnreachable: the budget is used up
        """
        self._failures += 1
        if self._failures == 1:
            self._since = self._clock()
        silent = self._clock() - self._since
        if silent >= self._seconds:
            raise TitanMasterUnreachable(
                f"{self._failures} status requests failed within {silent:.0f} s; the job may still be running, "
                f"and a retry of this task finds it again: {exc}"
            ) from exc
        pause = min(2.0 ** (self._failures - 1), _LONGEST_PAUSE, self._seconds - silent)
        return jittered(pause)

    @property
    def is_first_failure(self) -> bool:
        """True after the first failure of a row: the one to log."""
        return self._failures == 1


def outlast_store(request: Callable[[], T], seconds: float, log: Logger) -> T:
    """The request's answer; repeated while the master's store does not answer, as nothing was carried out then.

    :raises TitanMasterUnreachable: it did not for so many seconds
    """
    began, pause = time.monotonic(), 0.5
    while True:
        try:
            return request()
        except StoreUnavailable as exc:
            left = began + seconds - time.monotonic()
            if left <= 0:
                raise TitanMasterUnreachable(
                    f"the store behind the master was away for {seconds:g} s: {exc}"
                ) from exc
            if pause == 0.5:
                log.warning("The store behind the master is away; trying again: %s", exc)
        time.sleep(min(jittered(pause), left))
        pause = min(pause * 2, 5.0)


def jittered(seconds: float) -> float:
    """About that long, but not the same for everybody: many waiting tasks must not ask in step."""
    return seconds * random.uniform(0.75, 1.0)


def why_waiting(stats: ClusterStats, requirement: str) -> str:
    """A sentence on what a pending job waits for, as far as the cluster's numbers tell.

    :param requirement: the tag its worker must have
    """
    if reason := stats.lacks_worker(requirement):
        return reason
    able = [worker for worker in stats.workers if requirement in worker.tags]
    if any(worker.free for worker in able):
        return f"a worker with the tag {requirement!r} has a free slot, so it should start at any moment"
    slots = sum(worker.slots for worker in able)
    return (
        f"all {slots} slots with the tag {requirement!r} are taken, and {stats.queue_size} jobs wait in all"
    )


def tell_wait(log: Logger, job: str, stats: ClusterStats, requirement: str, told: str) -> str:
    """Log why a job waits, unless that was told already; as a warning where no worker can ever take it.

    :param job: how the line names the job
    :param told: what this function returned the last time
    """
    reason = why_waiting(stats, requirement)
    if reason != told:
        # The reason first: ids are long, and lists of log lines are cut.
        tell = log.warning if stats.lacks_worker(requirement) else log.info
        tell("Waiting for a worker: %s (%s)", reason, job)
    return reason


class ProgressLines:
    """What a job told with ``titan_job.progress``, as lines of the task log: soon after its start, then every ten seconds.

    :param clock: seconds that only grow
    """

    def __init__(self, log: Logger, name: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._name = f"{name}: " if name else ""
        self._clock = clock
        self._next = float("-inf")
        self._pause = 0.5
        self._told = ""

    def is_due(self) -> bool:
        """Whether to ask for the progress now; asked again only after a while."""
        if self._clock() < self._next:
            return False
        self._pause = min(self._pause * 2, PROGRESS_EVERY)
        self._next = self._clock() + self._pause
        return True

    def tell(self, progress: tuple[float | None, str] | None) -> None:
        """Log it, unless that was told already.

        :param progress: of the job's report
        """
        text = describe_progress(progress)
        if text and text != self._told:
            self._log.info("%sProgress: %s", self._name, text)
        self._told = text or self._told


def describe_progress(progress: tuple[float | None, str] | None) -> str:
    """``40 %, epoch 4``; empty where the job told nothing."""
    if progress is None:
        return ""
    fraction, words = progress
    words = " ".join(words.split())[:200]
    percent = "" if fraction is None else f"{fraction * 100:.0f} %"
    return ", ".join(part for part in (percent, words) if part)


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
