"""What the blocking and the asynchronous waits share: patience with a silent master, and why a job waits. No I/O."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from titan_provider.exceptions import TitanMasterUnreachable
from titan_sdk import ClusterStats, TitanError

__all__ = ["LOG_CHUNKS", "REASON_EVERY", "Lease", "Patience", "jittered", "why_waiting"]

REASON_EVERY = 10.0
"""Seconds between two looks at the cluster's numbers for a job that waits."""

LOG_CHUNKS = 8
"""Chunks of a job's log that are copied in one turn: 2 MiB at most."""

_LONGEST_PAUSE = 30.0


class Lease:
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


def jittered(seconds: float) -> float:
    """About that long, but not the same for everybody: many waiting tasks must not ask in step."""
    return seconds * random.uniform(0.75, 1.0)


def why_waiting(stats: ClusterStats, requirement: str) -> str:
    """A sentence on what a pending job waits for, as far as the cluster's numbers tell.

    :param requirement: the tag its worker must have
    """
    able = [worker for worker in stats.workers if requirement in worker.tags]
    if not stats.workers:
        return "the cluster has no workers"
    if not able:
        tags = ", ".join(sorted(stats.tags)) or "none"
        return f"no worker has the tag {requirement!r} (tags present: {tags})"
    if any(worker.free for worker in able):
        return f"a worker with the tag {requirement!r} has a free slot, so it should start at any moment"
    slots = sum(worker.slots for worker in able)
    return (
        f"all {slots} slots with the tag {requirement!r} are taken, and {stats.queue_size} jobs wait in all"
    )
