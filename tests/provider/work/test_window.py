"""The admission window on paper: what is read, what is written, and what happens when somebody else writes meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from titan_provider.work import admission
from titan_provider.work.admission import (
    RESERVED,
    SETTLE,
    AdmissionQueue,
    Sightings,
    Turn,
    Window,
    enter,
    wait_for_room,
)
from titan_sdk import JobStatus, ServerInfo

WINDOW = Window("GPU", 2)
KEY = "titan:airflow:window:GPU"
BUNDLED, REAL = ServerInfo("bundled", features=frozenset({"store_ops"})), ServerInfo("titan")
BOTH = pytest.mark.parametrize("info", [BUNDLED, REAL], ids=["swap", "read back"])
U, R, D = JobStatus.UNKNOWN, JobStatus.RUNNING, JobStatus.DEAD


class Paper:
    """A master and its client in one: a store, the jobs that are not unknown, and what was asked in order."""

    def __init__(self, info: ServerInfo, states: dict[str, JobStatus] | None = None, **jobs: float) -> None:
        self.info, self.states = info, states or {}
        self.values: dict[str, str] = {}
        self.asked: list[str] = []
        self.slept: list[float] = []
        self.meanwhile: dict[str, list[Callable[[], None]]] = {}
        if jobs:
            self.put_jobs(**jobs)

    def put_jobs(self, **jobs: float) -> None:
        self.values[KEY] = json.dumps({"v": 1, "jobs": jobs})

    def jobs(self) -> dict[str, float]:
        found = json.loads(self.values[KEY])
        assert found["v"] == 1
        assert set(found) == {"v", "jobs"}
        return dict(found["jobs"])

    def _note(self, what: str) -> None:
        self.asked.append(what)
        for action in self.meanwhile.pop(what, []):
            action()

    # -- as a wait sees it

    async def ask(self, request: Callable[[Any], Any], patience: float) -> Any:
        assert patience == 60.0
        return request(self)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._note("sleep")

    # -- as a client

    def server_info(self) -> ServerInfo:
        return self.info

    def store_get(self, key: str) -> str | None:
        self.asked.append("get")
        return self.values.get(key)

    def store_put(self, key: str, value: str) -> None:
        self.values[key] = value
        self._note("put")

    def store_swap(self, key: str, old: str | None, new: str) -> bool:
        self._note("swap")
        if self.values.get(key) != old:
            return False
        self.values[key] = new
        return True

    def get_job_statuses(self, job_ids: Sequence[str], wait: float | None = None) -> dict[str, JobStatus]:
        self._note("states" if wait is None else f"wait {wait:g}")
        return {job_id: self.states.get(job_id, U) for job_id in job_ids}


async def look(paper: Paper, *wanted: str, sightings: Sightings | None = None) -> Turn:
    return await enter(paper, WINDOW, wanted, sightings or Sightings(), 60.0)  # type: ignore[arg-type]


@BOTH
async def test_an_empty_window_lets_in_as_many_as_it_holds_in_their_order(info: ServerInfo) -> None:
    paper = Paper(info)
    assert await look(paper, "c", "a", "b") == Turn(("c", "a"), ("c", "a"))
    assert list(paper.jobs()) == ["c", "a"]


@BOTH
async def test_who_is_inside_stays_and_keeps_its_time(info: ServerInfo) -> None:
    paper = Paper(info, {"old": R}, old=5.0)
    assert await look(paper, "a", "old", "b") == Turn(("a", "old"), ("old", "a"))
    assert paper.jobs()["old"] == 5.0
    assert paper.jobs()["a"] > 5.0


@BOTH
async def test_a_full_window_is_read_and_not_written(info: ServerInfo) -> None:
    paper = Paper(info, {"one": R, "two": R, "three": R}, one=1.0, two=2.0, three=3.0)
    before = dict(paper.values)
    assert await look(paper, "a") == Turn((), ("one", "two", "three"))
    assert await look(paper, "two") == Turn(("two",), ("one", "two", "three"))
    assert (paper.values, paper.asked) == (before, ["get", "states"] * 2)


@BOTH
async def test_who_has_ended_makes_room_at_once_and_who_is_unknown_after_a_while(info: ServerInfo) -> None:
    now = 100.0
    sightings = Sightings(lambda: now)
    paper = Paper(info, {"ended": D, "runs": R}, ended=1.0, runs=2.0, lost=3.0)
    assert await look(paper, "a", sightings=sightings) == Turn((), ("runs", "lost"))
    now += RESERVED - 1
    assert await look(paper, "a", sightings=sightings) == Turn((), ("runs", "lost"))
    now += 1
    assert await look(paper, "a", sightings=sightings) == Turn(("a",), ("runs", "a"))
    assert set(paper.jobs()) == {"runs", "a"}


async def test_a_job_that_was_known_meanwhile_is_unknown_anew() -> None:
    now = 0.0
    sightings = Sightings(lambda: now)
    for passed, state in ((0.0, U), (RESERVED - 1, R), (RESERVED, U), (2 * RESERVED - 1, U)):
        now = passed
        assert sightings.look({"j": state}) == {"j"}
    now = 2 * RESERVED
    assert sightings.look({"j": U}) == set()
    assert sightings.look({"j": D}) == set()


async def test_a_swap_that_came_too_late_is_thought_over() -> None:
    paper = Paper(BUNDLED, {"other": R})
    paper.meanwhile["swap"] = [lambda: paper.put_jobs(other=1.0)]
    assert await look(paper, "a", "b") == Turn(("a",), ("other", "a"))
    assert paper.asked == ["get", "states", "swap"] * 2
    assert paper.slept == []


@pytest.mark.parametrize("when", ["states", "sleep"])
async def test_a_real_master_s_value_is_read_before_and_after_the_pause(when: str) -> None:
    paper = Paper(REAL, {"other": R})
    paper.meanwhile[when] = [lambda: paper.put_jobs(other=1.0)]
    assert await look(paper, "a", "b") == Turn(("a",), ("other", "a"))
    written = ["get", "states", "get", "put", "sleep", "get"]
    assert paper.asked == (["get", "states", "get"] if when == "states" else written) + written
    assert paper.slept == [SETTLE] * (1 if when == "states" else 2)
    assert set(paper.jobs()) == {"other", "a"}


@BOTH
async def test_what_another_version_has_written_counts_for_nothing(info: ServerInfo) -> None:
    paper = Paper(info)
    paper.values[KEY] = json.dumps({"v": 2, "jobs": {"x": 1.0, "y": 2.0}})
    assert await look(paper, "a") == Turn(("a",), ("a",))


def test_the_window_says_why_it_is_closed() -> None:
    assert WINDOW.key == KEY
    assert WINDOW.why_closed() == (
        "2 submissions with the tag 'GPU' are unfinished, which is as many as max_unfinished allows; this one waits, unsubmitted"
    )


def test_a_queue_asks_for_those_who_wait_for_the_same_size_and_are_not_inside() -> None:
    queue = AdmissionQueue()
    with queue.place("a", 2), queue.place("b", 3), queue.place("c", 2):
        assert (queue.wanted(2), queue.wanted(3), queue.wanted(4)) == (["a", "c"], ["b"], [])
        with queue.place("d", 2):
            queue.admitted.update(["a", "d"])
            assert queue.wanted(2) == ["c"]
        assert queue.admitted == {"a"}
    assert (queue.admitted, queue.wanted(2)) == (set(), [])
    with pytest.raises(KeyError), queue.place("a", 2):
        raise KeyError
    assert queue.wanted(2) == []


async def room(paper: Paper, queue: AdmissionQueue, given_up: Callable[[], bool] = lambda: False) -> bool:
    return await wait_for_room(paper, WINDOW, "a", queue, 60.0, given_up)  # type: ignore[arg-type]


async def test_a_wait_looks_again_when_somebody_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "jittered", lambda seconds: seconds)
    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: 7.0, time=time.time))
    paper = Paper(BUNDLED, {"one": R, "two": R}, one=1.0, two=2.0)
    paper.meanwhile["sleep"] = [lambda: paper.states.update(two=D)]
    queue = AdmissionQueue()
    assert await room(paper, queue)
    assert paper.asked == ["get", "states", "wait 2", "sleep", "get", "states", "swap"]
    assert paper.slept == [2.0]
    assert set(paper.jobs()) == {"one", "a"}
    assert (queue.wanted(2), queue.admitted) == ([], set())


async def test_a_wait_that_the_master_has_held_pauses_hardly(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 7.0

    def hold() -> None:
        nonlocal now
        now += 30.0

    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    paper = Paper(BUNDLED, {"one": R, "two": R}, one=1.0, two=2.0)
    paper.meanwhile["wait 2"] = [hold]
    paper.meanwhile["sleep"] = [lambda: paper.states.update(two=D)]
    assert await room(paper, AdmissionQueue())
    assert paper.slept == [0.05]


async def test_a_wait_that_nobody_needs_any_more_asks_nothing() -> None:
    paper, queue = Paper(BUNDLED), AdmissionQueue()
    assert not await room(paper, queue, lambda: True)
    assert (paper.asked, queue.wanted(2)) == ([], [])


async def test_a_wait_whose_job_another_s_look_let_in_asks_nothing() -> None:
    paper, queue = Paper(BUNDLED), AdmissionQueue()
    queue.admitted.add("a")
    assert await room(paper, queue)
    assert (paper.asked, queue.admitted) == ([], set())
