"""The states of all jobs that one triggerer process waits for on one master, kept by one task.

Where the master has WAIT, a few requests hold all jobs and are answered when one of them ends. A real master is
polled: every job at its own pace, at most :data:`MAX_RATE` requests a second in all. There the master's statistics
serve as a hint: a job that a worker has begun or ended since the last look is asked about at once.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from titan_provider.work.waiting import FIRST_LOOK, GROWTH
from titan_sdk import AsyncTitanClient, ClusterStats, JobStatus

__all__ = ["MAX_RATE", "Schedule", "StatusPoller", "WatchedJob", "wait_for_own", "wait_for_shared"]

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_RATE = 250.0
"""Status requests a second to a master without WAIT, where each one is a connection of its own."""

HOLD = 20.0
"""Seconds a WAIT may be held. Jobs that join meanwhile end it early."""

JOIN_PAUSE = 0.2
"""Seconds for which jobs gather before a WAIT is asked anew, and for which ends gather at a busy master."""

MANY = 20
"""Jobs of a group for which that pause is as long."""

GROUPS = 4
POLLERS = 8
HINT_EVERY, WORTH_A_HINT = 1.0, 20


class Asker(Protocol):
    """The part of ``SharedClient`` that is needed here."""

    async def ask(self, request: Callable[[AsyncTitanClient], Awaitable[T]], patience: float) -> T: ...


class WatchedJob:
    """One job as one trigger sees it.

    :param news: set at each change; shared by the watches of one that waits for several jobs
    """

    def __init__(
        self, job_id: str, interval: float, nonce: str | None = None, news: asyncio.Event | None = None
    ) -> None:
        self.job_id = job_id
        self.nonce = nonce
        self.interval = interval
        self.status = JobStatus.UNKNOWN
        """The last state heard of; UNKNOWN also before the first answer."""
        self.answered = False
        self._news = news or asyncio.Event()

    def tell(self, status: JobStatus) -> bool:
        """Note an answer; wakes the trigger, and returns True, when it is another one than before."""
        if status is self.status and self.answered:
            return False
        self.status, self.answered = status, True
        self._news.set()
        return True

    async def news(self, seconds: float) -> None:
        """Return at the next change, or after that long."""
        await wait_for_own(self._news, seconds)


class StatusPoller:
    """All watches on one master, and the task that feeds them while there are any."""

    def __init__(self, master: Asker) -> None:
        self._master = master
        self._groups = tuple(_Group() for _ in range(GROUPS))
        self._schedule: Schedule | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(len(group.watches) for group in self._groups)

    @contextmanager
    def watch(
        self, job_id: str, interval: float, nonce: str | None = None, news: asyncio.Event | None = None
    ) -> Iterator[WatchedJob]:
        """A job's state while the block runs.

        :param interval: the longest pause between two questions about it, where the master has to be polled; it is
            longer where there are many jobs
        :param nonce: of its submission: an end that is another's is none
        :param news: see :class:`WatchedJob`
        """
        watch, group = WatchedJob(job_id, interval, nonce, news), self._group(job_id)
        group.add(watch)
        if self._schedule is not None:
            self._schedule.add(job_id, interval)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="titan-status-poller")
        try:
            yield watch
        finally:
            if group.remove(watch) and self._schedule is not None:
                self._schedule.forget(job_id)
            if not len(self):
                self.stop()

    def stop(self) -> None:
        """End the task; it is started again when somebody watches."""
        if self._task is not None:
            self._task.cancel()
            self._ending, self._task = self._task, None

    async def ended(self) -> None:
        """Return once nothing is left of a task that was told to end: neither a request, nor its connection."""
        if self._ending is not None:
            await asyncio.wait([self._ending])
            await asyncio.sleep(0)  # the loop closes an aborted connection in its next turn

    def _group(self, job_id: str) -> _Group:
        return self._groups[hash(job_id) % GROUPS]

    async def _run(self) -> None:
        while True:
            try:
                info = await self._ask(lambda client: client.server_info())
                await (self._hold_all() if info.has("wait") else self._poll_all())
            except Exception as exc:  # noqa: BLE001 - all triggers of this master wait for this task
                # Another master may stand there now, one that cannot do what the last one could.
                log.warning("Asking for the states of %s jobs failed; trying again: %r", len(self), exc)
                await asyncio.sleep(1.0)

    async def _ask(self, request: Callable[[AsyncTitanClient], Awaitable[T]]) -> T:
        return await self._master.ask(request, math.inf)

    # -- a master with WAIT -----------------------------------------------------------------------------------

    async def _hold_all(self) -> None:
        await _until_one_fails([self._hold(group) for group in self._groups])

    async def _hold(self, group: _Group) -> None:
        while True:
            group.joined.clear()
            if fresh := group.unanswered():
                group.tell(await self._ask(lambda client, ids=fresh: client.get_job_statuses(ids)))  # type: ignore[misc]
            if waiting := group.open():
                await self._hold_once(group, waiting)
            else:
                await group.joined.wait()
            # What joins or ends together is handled together; a job that is alone waits for no other.
            await asyncio.sleep(group.gathering() * random.uniform(0.75, 1.0))

    async def _hold_once(self, group: _Group, waiting: list[str]) -> None:
        # Only an end is answered at once; that a job has started is seen when the hold is over.
        seconds = group.next_hold()
        held = asyncio.ensure_future(self._ask(lambda client: client.get_job_statuses(waiting, wait=seconds)))
        joined = asyncio.ensure_future(group.joined.wait())
        try:
            await asyncio.wait([held, joined], return_when=asyncio.FIRST_COMPLETED)
            if held.done():
                group.tell(held.result())
        finally:
            for future in (held, joined):
                future.cancel()
            await asyncio.gather(held, joined, return_exceptions=True)

    # -- a real master ----------------------------------------------------------------------------------------

    async def _poll_all(self) -> None:
        self._schedule = schedule = Schedule()
        for group in self._groups:
            for job_id, watches in group.watches.items():
                schedule.add(job_id, min(watch.interval for watch in watches))
        try:
            await _until_one_fails([self._poll(schedule) for _ in range(POLLERS)] + [self._hint(schedule)])
        finally:
            self._schedule = None

    async def _poll(self, schedule: Schedule) -> None:
        while True:
            job_id = await schedule.next()
            group = self._group(job_id)
            if job_id not in group.watches or group.is_over(job_id):
                schedule.forget(job_id)
                continue
            nonce = next(iter(group.watches[job_id])).nonce
            status = await self._ask(partial(_status, job_id, nonce))
            changed = group.tell({job_id: status})
            schedule.again(
                job_id, changed=changed, slowest=len(self) / MAX_RATE, many=len(self) >= WORTH_A_HINT
            )

    async def _hint(self, schedule: Schedule) -> None:
        known: set[tuple[str, str]] = set()
        while True:
            await asyncio.sleep(HINT_EVERY)
            if len(self) < WORTH_A_HINT:
                continue
            stats = await self._ask(lambda client: client.cluster_stats())
            now = _seen_on_workers(stats)
            for job_id, _ in known ^ now:
                schedule.hurry(job_id)
                schedule.hurry(f"DAG-{job_id}")
            known = now


class _Group:
    """A part of the jobs: those that share a request."""

    def __init__(self) -> None:
        self.watches: dict[str, set[WatchedJob]] = {}
        self.joined = asyncio.Event()
        self._hold = FIRST_LOOK

    def add(self, watch: WatchedJob) -> None:
        self.watches.setdefault(watch.job_id, set()).add(watch)
        self._hold = FIRST_LOOK
        self.joined.set()

    def next_hold(self) -> float:
        """Seconds for which the next WAIT is held: short after somebody has joined, whose job may start soon."""
        interval = min(watch.interval for watches in self.watches.values() for watch in watches)
        hold, self._hold = self._hold, self._hold * GROWTH
        return min(hold, interval, HOLD)

    def gathering(self) -> float:
        """Seconds for which others may join before the next request."""
        unknown = any(w.status is JobStatus.UNKNOWN for watches in self.watches.values() for w in watches)
        return JOIN_PAUSE * (1.0 if unknown else min(len(self.watches) / MANY, 1.0))

    def remove(self, watch: WatchedJob) -> bool:
        """Whether nobody watches that job any more."""
        left = self.watches[watch.job_id]
        left.discard(watch)
        if not left:
            del self.watches[watch.job_id]
        return not left

    def tell(self, states: Mapping[str, JobStatus]) -> bool:
        """Pass states on; whether any of them was new to anybody."""
        told = [
            watch.tell(status)
            for job_id, status in states.items()
            for watch in tuple(self.watches.get(job_id, ()))
        ]
        return any(told)

    def unanswered(self) -> list[str]:
        return [job_id for job_id, ws in self.watches.items() if any(not w.answered for w in ws)]

    def open(self) -> list[str]:
        """Jobs that may still change; for the others, their triggers are about to leave."""
        return [job_id for job_id in self.watches if not self.is_over(job_id)]

    def is_over(self, job_id: str) -> bool:
        return all(watch.status.is_terminal for watch in self.watches[job_id])


def _seen_on_workers(stats: ClusterStats) -> set[tuple[str, str]]:
    """Jobs and what their workers say of them. A real worker names its last ten jobs, and one of those that run."""
    seen = {(job, "active") for worker in stats.workers for job in worker.active_jobs}
    seen |= {(entry.job_id, str(entry.status)) for worker in stats.workers for entry in worker.history}
    return {(job.removeprefix("DAG-"), state) for job, state in seen}


async def _status(job_id: str, nonce: str | None, client: AsyncTitanClient) -> JobStatus:
    return await client.get_job_status(job_id, nonce=nonce)


async def _until_one_fails(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them all; none outlives this call."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_LONGEST = 15.0
"""Seconds between two questions about one of many jobs; the master's statistics tell of some changes earlier."""


class Schedule:
    """The moments at which to ask about each job. The longer nothing happens to a job, the later it is asked about, as
    :class:`~titan_provider.work.waiting.Pace` has it.
    """

    def __init__(self) -> None:
        self._pace: dict[str, tuple[float, float]] = {}
        """By job: the longest pause between two questions about one of few, and the present one."""
        self._due: list[tuple[float, str]] = []
        self._when: dict[str, float] = {}
        self._changed = asyncio.Event()

    def add(self, job_id: str, interval: float) -> None:
        if job_id not in self._pace:
            self._pace[job_id] = (interval, min(FIRST_LOOK, interval))
            self._put(job_id, 0.0)

    def again(self, job_id: str, *, changed: bool, slowest: float, many: bool) -> None:
        """Ask about it later.

        :param changed: whether something has just happened to it
        :param slowest: the shortest pause for everybody, in seconds
        :param many: whether so many jobs are asked about that a quiet one may wait
        """
        if job_id in self._pace:
            interval, pause = self._pace[job_id]
            if changed:
                pause = min(FIRST_LOOK, interval)
            self._put(job_id, max(pause, slowest) * random.uniform(0.75, 1.0))
            longest = max(interval, _LONGEST) if many else interval
            self._pace[job_id] = (interval, min(pause * GROWTH, longest))

    def hurry(self, job_id: str) -> None:
        if job_id in self._when:
            self._put(job_id, 0.0)

    def forget(self, job_id: str) -> None:
        self._pace.pop(job_id, None)
        self._when.pop(job_id, None)

    async def next(self) -> str:
        """The job that is due first, once it is."""
        while True:
            while self._due and self._when.get(self._due[0][1]) != self._due[0][0]:
                heapq.heappop(self._due)  # forgotten, or moved
            left = self._due[0][0] - _now() if self._due else 60.0
            if left <= 0:
                _, job_id = heapq.heappop(self._due)
                del self._when[job_id]
                return job_id
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _put(self, job_id: str, seconds: float) -> None:
        at = _now() + seconds
        self._when[job_id] = at
        heapq.heappush(self._due, (at, job_id))
        if self._due[0][0] == at:
            self._changed.set()


def _now() -> float:
    return asyncio.get_running_loop().time()


async def wait_for_own(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after that long; either way it is cleared.

    :param event: one that nobody else waits for
    """
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
    event.clear()


async def wait_for_shared(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after that long.

    :param event: left as it is
    """
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiter], timeout=seconds)
    finally:
        waiter.cancel()
