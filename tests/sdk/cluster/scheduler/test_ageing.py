from __future__ import annotations

from tests.sdk.cluster.scheduler.desk import Desk
from titan_sdk.cluster.master.scheduler import Outcome


def filled(ageing: float | None) -> Desk:
    """One slot, taken."""
    desk = Desk(GENERAL=1, ageing=ageing)
    desk.submit("running")
    return desk


def test_a_low_priority_is_not_starved_by_urgent_jobs_that_never_end() -> None:
    desk = filled(ageing=60)
    desk.submit("patient", priority=1)
    running = "running"
    for n in range(1, 100):
        desk.now = n * 10.0
        desk.submit(f"urgent{n}", priority=10)
        desk.finish(running)
        (running,) = desk.running
        if running == "patient":
            break
    # Nine priorities at 60 seconds each: then it is as good as those that come, and earlier.
    assert desk.now == 540.0


def test_without_ageing_priority_alone_counts() -> None:
    desk = filled(ageing=None)
    desk.submit("patient", priority=1)
    desk.now = 1e9
    desk.submit("urgent", priority=2)
    assert desk.run_all() == ["running", "urgent", "patient"]


def test_less_than_one_step_of_waiting_changes_no_order_of_priorities() -> None:
    desk = filled(ageing=60)
    desk.submit("early", priority=1)
    desk.now = 59.0
    desk.submit("urgent", priority=2)
    assert desk.run_all() == ["running", "urgent", "early"]


def test_the_time_before_a_job_could_run_does_not_count() -> None:
    desk = filled(ageing=60)
    desk.submit("tomorrow", priority=1, due=86_400.0)
    desk.submit("child", priority=1, parents=["running"])
    desk.tick(86_400.0)
    desk.submit("urgent", priority=2)
    desk.finish("running")
    assert desk.run_all() == ["running", "urgent", "tomorrow", "child"]


def test_a_run_that_is_repeated_keeps_its_place() -> None:
    desk = Desk(GENERAL=1, ageing=60)
    desk.submit("job", priority=1)
    desk.now = 100.0
    desk.submit("urgent", priority=2)
    desk.finish("job", Outcome.FAILURE)
    assert list(desk.running) == ["job"]


def test_jobs_of_two_tags_on_one_worker_age_alike() -> None:
    desk = Desk(ageing=60)
    desk.submit("old", tag="A", priority=1)
    desk.now = 61.0
    desk.submit("new", tag="B", priority=2)
    desk.add_worker("both", "A", "B")
    assert desk.run_all() == ["old", "new"]


def test_who_is_ahead_is_counted_by_the_same_order() -> None:
    desk = filled(ageing=60)
    desk.submit("old", priority=1)
    desk.now = 61.0
    desk.submit("new", priority=2)
    job = desk.scheduler.jobs.get("new")
    assert job is not None
    assert desk.scheduler.ahead_of(job) == 1
