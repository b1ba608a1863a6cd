"""The effects of an event, whole: every field of them is stored, shown or acted upon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from titan_sdk.cluster.master.scheduler import (
    Effect,
    Ended,
    JobSpec,
    Kill,
    Outcome,
    Phase,
    Requeued,
    Scheduler,
    Settled,
    Start,
)
from titan_sdk.model.status import JobStatus

COMPLETED, DEAD, CANCELLED = JobStatus.COMPLETED, JobStatus.DEAD, JobStatus.CANCELLED
A, B = JobSpec("a", 1, "T"), JobSpec("b", 2, "T")
CHILD = JobSpec("b", 2, "T", parents=("a",))
NEAR = JobSpec("b", 2, "T", parents=("a",), affinity=True)
ONCE = JobSpec("a", 1, "T", max_runs=1)
LATE = JobSpec("a", 1, "T", due=10.0)

Event = Callable[[Scheduler], Any]


def submit(*specs: JobSpec, settled: Settled | None = None) -> Event:
    return lambda scheduler: scheduler.submit(specs, lambda _: settled, 1.0)


def exited(outcome: Outcome, reason: str | None = None, code: int | None = None, job: str = "a") -> Event:
    return lambda scheduler: scheduler.exited(job, outcome, reason, 5.0, code)


def cancel(job: str = "a") -> Event:
    return lambda scheduler: scheduler.cancel(job)


def adopt(spec: JobSpec = A, worker: str = "w", attempt: int = 2, place: str | None = None) -> Event:
    return lambda scheduler: scheduler.adopt(spec, worker, attempt, place)


def adopt_stopping(worker: str = "w") -> Event:
    return lambda scheduler: scheduler.adopt_stopping("a", worker)


HISTORIES: dict[str, tuple[list[Event], list[Effect]]] = {
    "a success": (
        [submit(A), exited(Outcome.SUCCESS, "fine", 0)],
        [Ended("a", 1, COMPLETED, "w", "fine", True, 0)],
    ),
    "a failure without a reason": (
        [submit(A), exited(Outcome.FAILURE, None, 3)],
        [Requeued("a", 1, 1, "the run failed", 3), Start("a", "w", 2)],
    ),
    "a failure with a reason": (
        [submit(A), exited(Outcome.FAILURE, "killed", 137)],
        [Requeued("a", 1, 1, "killed", 137), Start("a", "w", 2)],
    ),
    "the last failure": (
        [submit(ONCE), exited(Outcome.FAILURE, "killed", 137)],
        [Ended("a", 1, DEAD, "w", "killed", True, 137)],
    ),
    "an interrupted run does not count": (
        [submit(ONCE), exited(Outcome.INTERRUPTED, "its worker left")],
        [Requeued("a", 1, 0, "its worker left", None), Start("a", "w", 1)],
    ),
    "a failure that no run can mend": (
        [submit(A), exited(Outcome.FATAL, "no such file", 2)],
        [Ended("a", 1, DEAD, "w", "no such file", True, 2)],
    ),
    "only the job has its exit code": (
        [submit(A, CHILD), exited(Outcome.FATAL, "no such file", 2)],
        [
            Ended("a", 1, DEAD, "w", "no such file", True, 2),
            Ended("b", 2, DEAD, None, "its parent a ended DEAD", False, None),
        ],
    ),
    "a child runs near its parent": (
        [submit(A, NEAR), exited(Outcome.SUCCESS, None, 0)],
        [Ended("a", 1, COMPLETED, "w", None, True, 0), Start("b", "w", 1, "w")],
    ),
    "one that asked for no place has none": (
        [submit(A, CHILD), exited(Outcome.SUCCESS, None, 0)],
        [Ended("a", 1, COMPLETED, "w", None, True, 0), Start("b", "w", 1)],
    ),
    "nor has it where its parent ended long ago": (
        [submit(CHILD, settled=Settled(COMPLETED, "elsewhere"))],
        [Start("b", "w", 1)],
    ),
    "near one that ended long ago": (
        [submit(NEAR, settled=Settled(COMPLETED, "elsewhere"))],
        [Start("b", "w", 1, "elsewhere")],
    ),
    "a cancel of a running job": (
        [submit(A, B), cancel()],
        [Kill("a"), Ended("a", 1, CANCELLED, "w", "cancelled by a client", True, None)],
    ),
    "its slot is free when it is gone": (
        [submit(A, B), cancel(), exited(Outcome.FAILURE)],
        [Start("b", "w", 1)],
    ),
    "a cancel of a queued job": (
        [submit(A, B), cancel("b")],
        [Ended("b", 2, CANCELLED, None, "cancelled by a client", False, None)],
    ),
    "an adopted run goes on counting": (
        [adopt(), submit(B), exited(Outcome.FAILURE, "killed", 137)],
        [Requeued("a", 1, 2, "killed", 137), Start("a", "w", 3)],
    ),
    "an adopted run holds its slot": ([adopt(), submit(B)], []),
    "an adopted service holds none": (
        [adopt(JobSpec("a", 1, "T", service=True)), submit(B)],
        [Start("b", "w", 1)],
    ),
    "an adopted run says where it is": (
        [adopt(place="node"), exited(Outcome.SUCCESS)],
        [Ended("a", 1, COMPLETED, "node", None, True, None)],
    ),
    "a run adopted from a worker that is gone": (
        [adopt(worker="gone"), submit(B), exited(Outcome.SUCCESS)],
        [Ended("a", 1, COMPLETED, "gone", None, True, None)],
    ),
    "an adopted run that is being ended holds its slot": ([adopt_stopping(), submit(B)], []),
    "until it is gone": (
        [adopt_stopping(), submit(B), exited(Outcome.SUCCESS)],
        [Start("b", "w", 1)],
    ),
    "one of a worker that is gone holds none": (
        [adopt_stopping("gone"), submit(B)],
        [Start("b", "w", 1)],
    ),
    "a worker that leaves kills what runs there": (
        [submit(A), lambda scheduler: scheduler.remove_worker("w")],
        [Kill("a")],
    ),
    "except what is being killed": (
        [submit(A), cancel(), lambda scheduler: scheduler.remove_worker("w")],
        [],
    ),
    "an unknown worker that leaves": ([submit(A), lambda scheduler: scheduler.remove_worker("x")], []),
    "an unknown worker that grows": ([submit(A, B), lambda scheduler: scheduler.resize_worker("x", 9)], []),
    "a worker that grows": (
        [submit(A, B), lambda scheduler: scheduler.resize_worker("w", 2)],
        [Start("b", "w", 1)],
    ),
    "a worker that is told its size again": (
        [submit(A, B), lambda scheduler: scheduler.resize_worker("w", 1)],
        [],
    ),
    "a held scheduler starts nothing": ([lambda scheduler: scheduler.hold(), submit(A)], []),
    "an exit that nobody waits for": ([submit(B), exited(Outcome.SUCCESS)], []),
    "an exit of a job that is not running": ([submit(LATE), exited(Outcome.SUCCESS)], []),
    "a tick at its time": ([submit(LATE), lambda scheduler: scheduler.tick(10.0)], [Start("a", "w", 1)]),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_the_last_event_has_exactly_these_effects(name: str) -> None:
    events, effects = HISTORIES[name]
    scheduler = Scheduler()
    assert scheduler.add_worker("w", ["T"], 1) == []
    *before, last = events
    for event in before:
        event(scheduler)
    assert (last(scheduler) or []) == effects


def test_what_can_be_read_of_it() -> None:
    scheduler = Scheduler()
    service, other = JobSpec("s", 5, "T", service=True), JobSpec("o", 6, "other", service=True)
    scheduler.submit([A, B, service, other, JobSpec("later", 7, "T", due=9.0)], lambda _: None, 1.0)
    scheduler.submit(
        [JobSpec("last", 8, "T", due=12.0), JobSpec("never", 9, "T", due=99.0)], lambda _: None, 1.0
    )
    assert scheduler.queue_lengths() == {"T": 3, "other": 1}
    assert (len(scheduler), scheduler.delayed, scheduler.next_due()) == (7, 3, 9.0)
    scheduler.tick(9.0)
    assert (scheduler.delayed, scheduler.next_due(), scheduler.queue_lengths()["T"]) == (2, 12.0, 4)
    scheduler.cancel("last")
    assert (scheduler.delayed, scheduler.next_due()) == (1, 99.0)
    assert [scheduler.ahead_of(scheduler.jobs[name]) for name in ("a", "b", "later")] == [0, 1, 2]
    scheduler.add_worker("w", ["T"], 1)
    assert ("w" in scheduler.workers, "x" in scheduler.workers) == (True, False)
    with pytest.raises(ValueError, match="'a' is unfinished already"):
        scheduler.submit([A], lambda _: None, 1.0)
    with pytest.raises(ValueError, match="there is a worker 'w' already"):
        scheduler.add_worker("w", ["T"], 1)


def test_a_place_is_noted_of_a_run_only() -> None:
    scheduler = Scheduler()
    scheduler.add_worker("pool", ["T"], 1, pool=True)
    scheduler.submit([A, B], lambda _: None, 1.0)
    scheduler.placed("unknown", "node")
    scheduler.placed("b", "node")
    assert (scheduler.jobs["b"].place, scheduler.jobs["a"].status) == (None, JobStatus.PENDING)
    scheduler.placed("a", "node")
    assert (scheduler.jobs["a"].place, scheduler.jobs["a"].status) == ("node", JobStatus.RUNNING)
    scheduler.adopt(JobSpec("c", 3, "T"), "pool", 1)
    assert (scheduler.jobs["c"].status, scheduler.jobs["c"].phase) == (JobStatus.PENDING, Phase.RUNNING)


def test_a_service_goes_to_the_preferred_worker_or_the_least_loaded_one() -> None:
    scheduler = Scheduler()
    for name in ("one", "two", "three"):
        scheduler.add_worker(name, ["T"], 1)
    scheduler.submit([A, B], lambda _: None, 1.0)
    services = [
        JobSpec("s", 3, "T", service=True),
        JobSpec("near", 4, "T", service=True, affinity=True, parents=("old",)),
    ]
    starts = scheduler.submit(services, lambda _: Settled(COMPLETED, "two"), 1.0)
    assert starts == [Start("s", "three", 1), Start("near", "two", 1, "two")]
