"""The requests of one triggerer process to one master, for all tasks that it waits for.

Triggers on the same master share one :class:`SharedClient`, and its :class:`StatusPoller` asks for the states of all their
jobs. The shared client bounds the connections that they open together. When the master goes silent, one of them probes,
with growing pauses, while the others wait: one warning, one line about the recovery.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TypeVar
from weakref import WeakKeyDictionary

from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.triggers.compat import log_delivered
from titan_provider.triggers.status_poller import StatusPoller, WatchedJob, wait_for_own, wait_for_shared
from titan_provider.work.admission import AdmissionQueue
from titan_provider.work.waiting import jittered
from titan_sdk import AsyncTitanClient, ClientConfig, ClusterStats, JobStatus, TransportError

__all__ = ["MAX_CONNECTIONS", "SharedClient", "shared_client"]

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_CONNECTIONS = 16
"""A real master has one thread per connection and takes 0.2 ms per status: more would only queue there."""

OPTIONAL_RATE = 200.0
"""Requests a second for logs, for all triggers together, while nothing happens to their jobs."""

_STATS_AGE = 2.0
"""Seconds for which statistics are believed; they only explain why a job waits."""

_FIRST_PROBE, _LAST_PROBE, _LOOK_AGAIN = 0.5, 15.0, 2.0


class SharedClient:
    """One master as all triggers of this process see it.

    :param client: makes the requests
    """

    def __init__(self, client: AsyncTitanClient, address: str) -> None:
        self.client = client
        self.users = 0
        self.poller = StatusPoller(self)
        self.queues: dict[str, AdmissionQueue] = {}
        """By admission window."""
        self._address = address
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._up = asyncio.Event()
        self._up.set()
        self._probing = False
        self._failures = 0
        self._down_since = 0.0
        self._last_error: TransportError | None = None
        self._stats: ClusterStats | None = None
        self._stats_at = 0.0
        self._stats_lock = asyncio.Lock()

    async def stats(self, patience: float) -> ClusterStats:
        """The master's statistics, at most a few seconds old: one request serves every trigger that asks.

        :param patience: as for :meth:`ask`
        :raises TitanMasterUnreachable: the master was silent for longer
        """
        async with self._stats_lock:
            if self._stats is None or _now() - self._stats_at >= _STATS_AGE:
                self._stats = await self.ask(lambda client: client.cluster_stats(), patience)
                self._stats_at = _now()
            return self._stats

    async def ask(self, request: Callable[[AsyncTitanClient], Awaitable[T]], patience: float) -> T:
        """The request's answer; repeated for as long as the master is silent, so it must change nothing or
        bear being repeated.

        :param patience: seconds of silence, counted from the last answer to anybody or from this call
        :raises TitanMasterUnreachable: the master was silent for longer
        """
        began = _now()
        while True:
            if self._up.is_set():
                async with self._slots:
                    if not self._up.is_set():  # went silent while this one waited for its turn
                        continue
                    try:
                        return await request(self.client)
                    except TransportError as exc:
                        self._note_failure(exc)
            left = patience - (_now() - max(self._down_since, began))
            if left <= 0:
                raise self._unreachable(patience)
            if self._probing or self._up.is_set():
                await self._wait_until_up(min(left, _LOOK_AGAIN))
                continue
            self._probing = True
            try:
                await asyncio.sleep(min(self._pause(), left))
                answer = await request(self.client)
            except TransportError as exc:
                self._note_failure(exc)
            else:
                self._note_recovery()
                return answer
            finally:
                self._probing = False

    @contextmanager
    def watch(self, nonces: Mapping[str, str], interval: float, patience: float) -> Iterator[_Statuses]:
        """The jobs' states while the block runs; the poller asks for those of all triggers together.

        :param nonces: names of the submissions, by job id; empty where there is none
        :param interval: the longest pause between two questions about a job, where the master has to be polled
        :param patience: as for :meth:`ask`
        """
        news = asyncio.Event()
        with ExitStack() as stack:
            watched = [
                stack.enter_context(self.poller.watch(job_id, interval, nonce or None, news))
                for job_id, nonce in nonces.items()
            ]
            yield _Statuses(self, watched, news, patience)

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        await asyncio.sleep(seconds)

    async def log_delivered(self) -> None:
        """Return once Airflow has all log lines that triggers have written so far."""
        await log_delivered()

    async def once(self, request: Callable[[AsyncTitanClient], Awaitable[T]]) -> T:
        """The request's answer, not repeated. Thousands of triggers that stop together still share the connections.

        :raises TitanError: as the request
        """
        async with self._slots:
            return await request(self.client)

    def insist(self, patience: float, since: float) -> None:
        """Give up if the master is silent for too long. Asks nothing: somebody else is probing.

        :param since: event loop time from which the caller's patience counts
        :raises TitanMasterUnreachable: it is
        """
        if not self._up.is_set() and _now() - max(self._down_since, since) >= patience:
            raise self._unreachable(patience)

    def paced(self, seconds: float) -> float:
        """A pause between two optional requests of one trigger, longer the more triggers there are."""
        return jittered(max(seconds, self.users / OPTIONAL_RATE))

    async def _wait_until_up(self, seconds: float) -> None:
        # The caller then looks at its patience, and whether it has to probe itself.
        await wait_for_shared(self._up, seconds)

    def _pause(self) -> float:
        pause = min(_FIRST_PROBE * 2.0 ** (self._failures - 1), _LAST_PROBE)
        return pause * random.uniform(0.75, 1.0)

    def _note_failure(self, exc: TransportError) -> None:
        self._last_error = exc
        if self._up.is_set():
            self._up.clear()
            self._failures, self._down_since = 0, _now()
            log.warning(
                "The Titan master at %s does not answer; asking again until it does: %s", self._address, exc
            )
        self._failures += 1

    def _note_recovery(self) -> None:
        self._up.set()
        log.warning(
            "The Titan master at %s answers again after %.0f s", self._address, _now() - self._down_since
        )

    def _unreachable(self, patience: float) -> TitanMasterUnreachable:
        error = TitanMasterUnreachable(
            f"the Titan master at {self._address} has not answered for {patience:g} s; the job may still be running, "
            f"and a retry of this task finds it again: {self._last_error}"
        )
        error.__cause__ = self._last_error
        return error


class _Statuses:
    """The states of one trigger's jobs, as the poller has heard them.

    :param news: set by the poller at each change
    """

    def __init__(
        self, shared: SharedClient, watched: Sequence[WatchedJob], news: asyncio.Event, patience: float
    ) -> None:
        self._shared = shared
        self._watched = watched
        self._news = news
        self._patience = patience
        self._began = _now()

    @property
    def known(self) -> dict[str, JobStatus]:
        return {job.job_id: job.status for job in self._watched if job.answered}

    async def news(self, seconds: float) -> None:
        await wait_for_own(self._news, self._shared.paced(seconds))
        self._shared.insist(self._patience, self._began)


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[ClientConfig, SharedClient]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_client(config: ClientConfig) -> AsyncIterator[SharedClient]:
    """The master of that configuration, shared with everybody on this event loop who waits for the same one.

    :param config: two configurations that differ in anything, such as address or timeout, share nothing
    """
    masters = _shared.setdefault(asyncio.get_running_loop(), {})
    master = masters.get(config)
    if master is None:
        master = masters[config] = SharedClient(AsyncTitanClient(config=config), config.address)
    master.users += 1
    try:
        yield master
    finally:
        master.users -= 1
        if not master.users:
            masters.pop(config, None)
            master.poller.stop()
            try:
                await master.poller.ended()
            finally:
                await master.client.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
