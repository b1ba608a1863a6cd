"""What the blocking and the asynchronous waits share: patience with a silent master, and why a job waits. No I/O."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.work.joblog import Logger
from titan_sdk import ClusterStats, JobStatus, StoreUnavailable, TitanError

__all__ = [
    "FIRST_LOOK",
    "Master",
    "Pace",
    "Patience",
    "Statuses",
    "jittered",
    "outlast_store",
]

T = TypeVar("T")

FIRST_LOOK = 0.1
"""Seconds between the first two looks at a job; later pauses are longer, up to its ``poll_interval``."""

GROWTH = 1.5
"""How much longer a pause is than the one before."""

_LONGEST_PAUSE = 30.0


class Statuses(Protocol):
    """What the master says of some jobs."""

    def get(self, job_id: str) -> JobStatus | None:
        """The state last heard of; None before the first answer."""

    async def news(self, seconds: float) -> None:
        """Return when one of the states has changed, or after about that long.

        :raises TitanMasterUnreachable: the master was silent for too long
        """


class Master(Protocol):
    """The master as a wait sees it: ``OwnClient`` in a task's process, ``SharedClient`` in a triggerer.

    A request is a function of a client: of the blocking one in the former, of the asynchronous one in the latter.
    """

    async def ask(self, request: Callable[[Any], Any], patience: float) -> Any:
        """The request's answer; repeated for as long as the master is silent, so it must bear being repeated.

        :param patience: seconds of silence
        :raises TitanMasterUnreachable: the master was silent for longer
        """

    async def once(self, request: Callable[[Any], Any]) -> Any:
        """As :meth:`ask`, but not repeated."""

    async def stats(self, patience: float) -> ClusterStats:
        """The master's statistics; not necessarily of this very moment."""

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""

    async def log_delivered(self) -> None:
        """Return once Airflow has all log lines that were written so far."""

    def watch(
        self, nonces: Mapping[str, str], interval: float, patience: float
    ) -> AbstractContextManager[Statuses]:
        """The jobs' states while the block runs.

        :param nonces: names of the submissions, by job id; empty where there is none
        :param interval: the longest pause between two questions about a job, where the master does not tell of its end
        :param patience: as for :meth:`ask`
        """


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
