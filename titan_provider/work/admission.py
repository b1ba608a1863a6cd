"""The admission window: at most so many unfinished submissions per tag on a master. No I/O.

A queued job on a saturated real master may die unrun, so a mapped task of a thousand must not send a thousand jobs. Who
is inside stands in one value of TitanStore per tag, shared by every task of every process. A job leaves the window
when the master says that it has ended; nobody has to report that. A job that was let in and never submitted (its task
was killed in between) counts until somebody who waits has seen it so for :data:`RESERVED` seconds, by the clock of that process
alone: clocks of hosts differ.

The value is changed by compare-and-set. A real master has none, so there a writer reads its value back after a pause;
that is exact as long as a write arrives within :data:`SETTLE` seconds, and otherwise lets one more in.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from titan_provider.compat import AirflowException
from titan_provider.work.joblog import Logger
from titan_provider.work.waiting import jittered
from titan_sdk import JobStatus, TitanClient

__all__ = [
    "RESERVED",
    "SETTLE",
    "AdmissionQueue",
    "Flow",
    "Pause",
    "Sightings",
    "Turn",
    "Window",
    "enter",
    "try_to_enter",
    "wait_to_enter",
]

RESERVED = 180.0
SETTLE = 0.3


@dataclass(frozen=True, slots=True)
class Pause:
    """Let that many seconds pass."""

    seconds: float


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
    """What one look at the window gave."""

    admitted: tuple[str, ...]
    """Those of the wanted ids that are inside now."""
    inside: tuple[str, ...]
    """All ids inside: as long as none of them ends, looking again is pointless."""


class Sightings:
    """Since when one process has seen jobs inside that the master does not know.

    :param clock: seconds that only grow
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def look(self, states: Mapping[str, JobStatus]) -> set[str]:
        """Those of the jobs inside that count.

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


# A step is a call on a client, blocking or not: both have the same names. The driver sends its outcome back.
Flow: TypeAlias = Generator[Callable[[Any], Any] | Pause, Any, Turn]


def enter(window: Window, wanted: Sequence[str], sightings: Sightings) -> Flow:
    """Let in as many of the wanted ids as there is room for, in their order.

    :param wanted: job ids that nobody has submitted yet; one that is inside already stays so
    :param sightings: of whoever looks, kept between its looks
    """
    info = yield lambda client: client.server_info()
    while True:
        text = yield lambda client: client.store_get(window.key)
        entries = _read(text)
        known = tuple(entries)
        states = yield lambda client: client.get_job_statuses(known)  # noqa: B023 - called at once
        counted = sightings.look(states)
        inside = {job_id: at for job_id, at in entries.items() if job_id in counted}
        room = max(window.limit - len(inside), 0)
        new = [job_id for job_id in wanted if job_id not in inside][:room]
        inside |= dict.fromkeys(new, time.time())  # for people
        admitted = tuple(job_id for job_id in wanted if job_id in inside)
        value = json.dumps({"v": 1, "jobs": inside})
        if not new or (yield from _swap(window.key, text, value, exact=info.has("store_ops"))):
            return Turn(admitted, tuple(inside))


def _swap(key: str, old: str | None, new: str, *, exact: bool) -> Generator[Any, Any, bool]:
    if exact:
        swapped: bool = yield lambda client: client.store_swap(key, old, new)
        return swapped
    if (yield lambda client: client.store_get(key)) != old:
        return False
    yield lambda client: client.store_put(key, new)
    # Whoever read the old value before this write has written by the end of the pause.
    yield Pause(SETTLE)
    kept: bool = (yield lambda client: client.store_get(key)) == new
    return kept


def _read(text: str | None) -> Mapping[str, float]:
    if text is None:
        return {}
    found = json.loads(text)
    return found["jobs"] if found.get("v") == 1 else {}


class AdmissionQueue:
    """In the order they came. Whose turn it is asks for everybody: a thousand of them must not ask a thousand times."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.sightings = Sightings()
        self.admitted: set[str] = set()
        """Let in by somebody else's look, and not gone yet."""
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
        """Who waits for a window of that size."""
        return [
            job_id for job_id, size in self._waiting.items() if size == limit and job_id not in self.admitted
        ]


_LOOK_AGAIN = 3.0


def try_to_enter(
    client: TitanClient, window: Window, job_id: str, sightings: Sightings | None = None
) -> Turn:
    """Look once: whether the id is inside, and who else is.

    :param job_id: a job that has not been submitted yet
    :param sightings: of whoever looks again and again
    """
    flow = enter(window, [job_id], sightings or Sightings())
    outcome: Any = None
    while True:
        try:
            step = flow.send(outcome)
        except StopIteration as end:
            turn: Turn = end.value
            return turn
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            outcome = None
        else:
            outcome = step(client)


def wait_to_enter(
    client: TitanClient, window: Window, job_id: str, log: Logger, given_up: Callable[[], bool]
) -> None:
    """Return once the id is inside.

    :param job_id: a job that has not been submitted yet
    :param given_up: whether nobody waits any more
    :raises AirflowException: nobody waits any more
    """
    said, sightings = False, Sightings()
    while not given_up():
        turn = try_to_enter(client, window, job_id, sightings)
        if turn.admitted:
            return
        if not said:
            log.info("Job %s is held back: %s", job_id, window.why_closed())
            said = True
        began = time.monotonic()
        # A master with WAIT answers when one of them ends; another one at once.
        client.get_job_statuses(turn.inside, wait=_LOOK_AGAIN)
        time.sleep(max(jittered(_LOOK_AGAIN) - (time.monotonic() - began), 0.1))
    raise AirflowException(f"the task was killed before its job {job_id!r} was submitted")
