"""The admission window: at most so many unfinished submissions per tag on a master.

A queued job on a saturated real master may die unrun, so a mapped task of a thousand must not send a thousand jobs. One
value of TitanStore per tag lists the jobs inside, for every task of every process. A job leaves the window when the master
says that it has ended; nobody has to report that. A job that was let in and never submitted, because its task was killed
in between, counts for :data:`RESERVED` seconds. A waiting process counts them by its own clock: clocks of hosts differ.

The value is changed by compare-and-set. A real master has none, so there a writer reads its value back after a pause;
that is exact as long as a write arrives within :data:`SETTLE` seconds, and otherwise lets one more in.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from titan_provider.work.waiting import Master, jittered
from titan_sdk import JobStatus

__all__ = [
    "RESERVED",
    "SETTLE",
    "AdmissionQueue",
    "Sightings",
    "Turn",
    "Window",
    "enter",
    "wait_for_room",
]

RESERVED = 180.0
SETTLE = 0.3
_LOOK_AGAIN = 2.0


@dataclass(frozen=True, slots=True)
class Window:
    """One tag's window.

    :param limit: unfinished submissions it holds
    """

    tag: str
    limit: int

    @property
    def key(self) -> str:
        return f"titan:airflow:window:{self.tag}"

    def why_closed(self) -> str:
        return (
            f"{self.limit} submissions with the tag {self.tag!r} are unfinished, which is as many as max_unfinished "
            "allows; this one waits, unsubmitted"
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """The outcome of one look at the window."""

    admitted: tuple[str, ...]
    """The wanted ids that are inside now."""
    inside: tuple[str, ...]
    """All ids inside; until one of them ends, another look would find the same."""


class Sightings:
    """The moments since which one process has seen jobs inside that the master does not know.

    :param clock: seconds that only grow
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def look(self, states: Mapping[str, JobStatus]) -> set[str]:
        """The jobs inside that count.

        :param states: of all that are inside
        """
        now = self._clock()
        unknown = [job_id for job_id, status in states.items() if status is JobStatus.UNKNOWN]
        self._since = {job_id: self._since.get(job_id, now) for job_id in unknown}
        return {
            job_id
            for job_id, status in states.items()
            if not status.is_terminal and now - self._since.get(job_id, now) < RESERVED
        }


async def enter(
    master: Master, window: Window, wanted: Sequence[str], sightings: Sightings, patience: float
) -> Turn:
    """Let in as many of the wanted ids as there is room for, in their order.

    :param wanted: job ids that nobody has submitted yet; one that is inside already stays so
    :param sightings: kept from one look to the next
    :param patience: seconds for which the master may be silent
    """
    info = await master.ask(lambda client: client.server_info(), patience)
    while True:
        text = await master.ask(lambda client: client.store_get(window.key), patience)
        entries = _read(text)
        states = await master.ask(partial(_statuses, tuple(entries)), patience)
        counted = sightings.look(states)
        inside = {job_id: at for job_id, at in entries.items() if job_id in counted}
        room = max(window.limit - len(inside), 0)
        new = [job_id for job_id in wanted if job_id not in inside][:room]
        inside |= dict.fromkeys(new, time.time())  # for people
        admitted = tuple(job_id for job_id in wanted if job_id in inside)
        value = json.dumps({"v": 1, "jobs": inside})
        swap = _swap if info.has("store_ops") else _write_and_read_back
        if not new or await swap(master, window.key, text, value, patience):
            return Turn(admitted, tuple(inside))


async def _swap(master: Master, key: str, old: str | None, new: str, patience: float) -> bool:
    return bool(await master.ask(lambda client: client.store_swap(key, old, new), patience))


async def _write_and_read_back(master: Master, key: str, old: str | None, new: str, patience: float) -> bool:
    if await master.ask(lambda client: client.store_get(key), patience) != old:
        return False
    await master.ask(lambda client: client.store_put(key, new), patience)
    # A writer that read the old value before this write has written by the end of the pause.
    await master.sleep(SETTLE)
    return bool(await master.ask(lambda client: client.store_get(key), patience) == new)


def _statuses(job_ids: Sequence[str], client: Any) -> Any:
    return client.get_job_statuses(job_ids)


def _read(text: str | None) -> Mapping[str, float]:
    if text is None:
        return {}
    found = json.loads(text)
    return found["jobs"] if found.get("v") == 1 else {}


class AdmissionQueue:
    """The waits of one process for one window, in the order in which they came. The one whose turn it is asks for all of
    them: a thousand waits must not ask a thousand times.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.sightings = Sightings()
        self.admitted: set[str] = set()
        """Jobs that another wait's look let in, and that have not left the queue yet."""
        self._waiting: dict[str, int] = {}

    @contextmanager
    def place(self, job_id: str, limit: int) -> Iterator[None]:
        """A place in the queue while the block runs.

        :param limit: jobs that the window holds for this one
        """
        self._waiting[job_id] = limit
        try:
            yield
        finally:
            del self._waiting[job_id]
            self.admitted.discard(job_id)

    def wanted(self, limit: int) -> list[str]:
        """The jobs that wait for a window of that size."""
        return [
            job_id for job_id, size in self._waiting.items() if size == limit and job_id not in self.admitted
        ]


async def wait_for_room(
    master: Master,
    window: Window,
    job_id: str,
    queue: AdmissionQueue,
    patience: float,
    given_up: Callable[[], bool] = lambda: False,
) -> bool:
    """Return True once the id is inside, False once nobody waits any more.

    :param job_id: a job that has not been submitted yet
    :param queue: of all waits of this process for that window
    :param patience: seconds for which the master may be silent
    :param given_up: whether nobody waits any more
    """
    with queue.place(job_id, window.limit):
        async with queue.turn:
            while job_id not in queue.admitted:
                if given_up():
                    return False
                turn = await enter(master, window, queue.wanted(window.limit), queue.sightings, patience)
                queue.admitted.update(turn.admitted)
                if job_id not in turn.admitted:
                    await _until_one_ends(master, turn, patience)
    return True


async def _until_one_ends(master: Master, turn: Turn, patience: float) -> None:
    """A master with WAIT tells of the end; another one answers at once, and is asked again after a while."""
    began = time.monotonic()
    await master.ask(lambda client: client.get_job_statuses(turn.inside, wait=_LOOK_AGAIN), patience)
    await master.sleep(max(jittered(_LOOK_AGAIN) - (time.monotonic() - began), 0.05))
