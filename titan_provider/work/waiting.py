"""The master as a wait sees it, the pace of its questions, its patience, and the blocking client of a task.

A wait such as :class:`~titan_provider.work.watch.WorkWatch` is written once, as a coroutine over a :class:`Master`. In a
triggerer it suspends, because thousands wait on one event loop (``triggers/shared_client.py``). In a task nothing else
goes on meanwhile: the methods of :class:`OwnClient` block and never suspend, so :func:`run_blocking` runs the coroutine
to its end in one step, without an event loop. An exception of a signal handler, Airflow's way of ending a task that has
run for too long, then comes out of the wait as out of any other blocking code.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.work.joblog import Logger
from titan_sdk import ClusterStats, JobStatus, TitanClient, TitanError, TransportError

__all__ = [
    "FIRST_LOOK",
    "GROWTH",
    "Master",
    "OwnClient",
    "Pace",
    "Patience",
    "Statuses",
    "ends_soon",
    "jittered",
    "run_blocking",
]

T = TypeVar("T")

SOON = 1.0
"""Seconds that a deferrable task waits by itself. A deferral costs more: two starts of a process, and a trigger."""

FIRST_LOOK = 0.1
"""Seconds between the first two looks at a job; later pauses are longer, up to its ``poll_interval``."""

GROWTH = 1.5
"""Factor by which a pause is longer than the one before."""

_LONGEST_PAUSE = 30.0


class Statuses(Protocol):
    """The states of some jobs, as the master tells them."""

    @property
    def known(self) -> Mapping[str, JobStatus]:
        """The states last heard of, by job id; none of a job before the first answer about it."""

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
    """The time for which requests may fail in a row before a task gives up on a job that may well be running.

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


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that asks through an :class:`OwnClient` only."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        work.close()
    raise RuntimeError(f"{work!r} waits for an event loop, which a task that blocks has not")


class OwnClient:
    """Asks the master for one task.

    :param log: told once when the master goes silent, and once when it answers again
    """

    def __init__(self, client: TitanClient, log: Logger) -> None:
        self._client = client
        self._log = log

    async def ask(self, request: Callable[[Any], Any], patience: float) -> Any:
        """The request's answer; repeated for as long as the master is silent, so it must bear being repeated.

        :param patience: seconds of silence
        :raises TitanMasterUnreachable: the master was silent for longer
        """
        try:
            return request(self._client)
        except TransportError as exc:
            failure = exc
        silence, address = Patience(patience), self._client.config.address
        words = "The Titan master at %s does not answer; asking again until it does: %s"
        self._log.warning(words, address, failure)
        while True:
            time.sleep(silence.failed(failure))  # noqa: ASYNC251 - blocks on purpose
            try:
                answer = request(self._client)
            except TransportError as exc:
                failure = exc
            else:
                self._log.warning("The Titan master at %s answers again", address)
                return answer

    async def once(self, request: Callable[[Any], Any]) -> Any:
        """The request's answer, not repeated."""
        return request(self._client)

    async def stats(self, patience: float) -> ClusterStats:
        """The master's statistics.

        :param patience: as for :meth:`ask`
        """
        stats: ClusterStats = await self.ask(lambda client: client.cluster_stats(), patience)
        return stats

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        time.sleep(seconds)  # noqa: ASYNC251 - blocks on purpose

    async def log_delivered(self) -> None:
        """Return once Airflow has all lines written so far: a task's log takes them as they are written."""

    @contextmanager
    def watch(self, nonces: Mapping[str, str], interval: float, patience: float) -> Iterator[_Statuses]:
        """The jobs' states while the block runs.

        :param nonces: names of the submissions, by job id
        :param interval: the longest pause between two looks at a master that does not tell of ends
        :param patience: as for :meth:`ask`
        """
        yield _Statuses(self, nonces, interval, patience)


class _Statuses:
    """The states of some jobs, which the task asks for itself."""

    def __init__(self, owner: OwnClient, nonces: Mapping[str, str], interval: float, patience: float) -> None:
        self._owner = owner
        self._job_ids = tuple(nonces)
        self._nonces = {job_id: nonce for job_id, nonce in nonces.items() if nonce}
        self._pace = Pace(interval)
        self._patience = patience
        self.known: dict[str, JobStatus] = {}

    async def news(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while open_ids := [i for i in self._job_ids if (s := self.known.get(i)) is None or not s.is_terminal]:
            pause = min(self._pace.next(), max(end - time.monotonic(), 0.0)) if self.known else 0.0
            if JobStatus.UNKNOWN in self.known.values():
                # The master answers at once where it does not know a job.
                await self._owner.sleep(pause)
                pause = 0.0
            look = partial(statuses_after, seconds=pause, job_ids=open_ids, nonces=self._nonces)
            states = await self._owner.ask(look, self._patience)
            is_new = any(self.known.get(job_id) is not status for job_id, status in states.items())
            self.known |= states
            if is_new:
                self._pace.restart()
            if is_new or time.monotonic() >= end:
                return
        await self._owner.sleep(max(end - time.monotonic(), 0.0))


def statuses_after(
    client: TitanClient, seconds: float, job_ids: Sequence[str], nonces: Mapping[str, str] | None = None
) -> dict[str, JobStatus]:
    """The states of the jobs after that many seconds, or as soon as one has ended where the master tells that.

    :param nonces: names of the submissions, by job id
    """
    end = time.monotonic() + seconds
    while True:
        left = max(end - time.monotonic(), 0.0)
        if left and not client.server_info().has("wait"):
            time.sleep(left)
            left = 0.0
        states = client.get_job_statuses(job_ids, wait=left, nonces=nonces)
        # The master may answer before the time is over.
        if left == 0 or any(status.is_terminal or status is JobStatus.UNKNOWN for status in states.values()):
            return states


def ends_soon(client: TitanClient, nonces: Mapping[str, str]) -> bool:
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
