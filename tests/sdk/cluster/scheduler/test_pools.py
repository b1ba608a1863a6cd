"""Workers that are pools: somebody else chooses the place, and says so later."""

from __future__ import annotations

from titan_sdk.cluster.master.scheduler import Ended, JobSpec, Outcome, Scheduler, Settled, Start
from titan_sdk.model.status import JobStatus


def nothing_settled(_: str) -> Settled | None:
    return None


def submit(scheduler: Scheduler, *specs: JobSpec) -> list[Start]:
    effects = scheduler.submit(specs, nothing_settled, 0.0)
    return [effect for effect in effects if isinstance(effect, Start)]


def pool(slots: int) -> Scheduler:
    scheduler = Scheduler()
    scheduler.add_worker("GENERAL", ["GENERAL"], slots, pool=True)
    return scheduler


def test_a_job_of_a_pool_is_pending_until_its_place_is_known() -> None:
    scheduler = pool(1)
    submit(scheduler, JobSpec("a", 1, "GENERAL"))
    job = scheduler.jobs.get("a")
    assert job is not None
    assert job.status is JobStatus.PENDING
    scheduler.placed("a", "node-7")
    assert (job.status, job.ran_on) == (JobStatus.RUNNING, "node-7")


def test_a_second_run_has_no_place_yet() -> None:
    scheduler = pool(1)
    submit(scheduler, JobSpec("a", 1, "GENERAL"))
    scheduler.placed("a", "node-7")
    scheduler.exited("a", Outcome.FAILURE, "node node-7 died", 1.0)
    job = scheduler.jobs.get("a")
    assert job is not None
    assert (job.status, job.attempt, job.place) == (JobStatus.PENDING, 2, None)


def test_a_child_with_affinity_is_started_near_the_place_of_its_parent() -> None:
    scheduler = pool(1)
    child = JobSpec("child", 2, "GENERAL", parents=("parent",), affinity=True)
    assert submit(scheduler, JobSpec("parent", 1, "GENERAL"), child) == [Start("parent", "GENERAL", 1)]
    scheduler.placed("parent", "node-7")
    ended, start = scheduler.exited("parent", Outcome.SUCCESS, None, 1.0)
    assert isinstance(ended, Ended)
    assert ended.worker == "node-7"
    assert start == Start("child", "GENERAL", 1, "node-7")


def test_a_pool_that_grows_starts_what_waits_best_first() -> None:
    scheduler = pool(0)
    assert submit(scheduler, JobSpec("low", 1, "GENERAL"), JobSpec("high", 2, "GENERAL", priority=5)) == []
    assert scheduler.resize_worker("GENERAL", 1) == [Start("high", "GENERAL", 1)]
    assert scheduler.resize_worker("GENERAL", 2) == [Start("low", "GENERAL", 1)]


def test_a_pool_that_shrinks_lets_its_jobs_go_on_and_starts_none() -> None:
    scheduler = pool(2)
    submit(scheduler, *(JobSpec(name, n, "GENERAL") for n, name in enumerate("abc", start=1)))
    assert scheduler.resize_worker("GENERAL", 0) == []
    (ended,) = scheduler.exited("a", Outcome.SUCCESS, None, 1.0)
    assert isinstance(ended, Ended)
    assert scheduler.resize_worker("GENERAL", 1) == []  # b still has it
    assert scheduler.exited("b", Outcome.SUCCESS, None, 2.0)[-1] == Start("c", "GENERAL", 1)


def test_a_service_waits_for_a_pool_with_a_place() -> None:
    scheduler = pool(0)
    assert submit(scheduler, JobSpec("svc", 1, "GENERAL", service=True)) == []
    assert scheduler.resize_worker("GENERAL", 1) == [Start("svc", "GENERAL", 1)]
