from __future__ import annotations

import pytest

from tests.sdk.cluster.scheduler.desk import Desk
from titan_sdk.cluster.master.scheduler import Outcome, Settled
from titan_sdk.model.status import JobStatus

COMPLETED, DEAD, CANCELLED = JobStatus.COMPLETED, JobStatus.DEAD, JobStatus.CANCELLED


def test_a_higher_priority_goes_first_and_equal_ones_in_order_of_submission() -> None:
    desk = Desk(GENERAL=0)
    desk.submit("low", priority=1)
    desk.submit("first", priority=5)
    desk.submit("second", priority=5)
    desk.submit("urgent", priority=2**31 - 1)
    desk.add_worker("w", "GENERAL")
    assert desk.run_all() == ["urgent", "first", "second", "low"]


def test_a_batch_keeps_its_own_order() -> None:
    desk = Desk(GENERAL=1)
    desk.submit_batch([{"job_id": f"j{n}"} for n in range(12)])
    assert desk.run_all() == [f"j{n}" for n in range(12)]


def test_a_worker_never_has_more_runs_than_slots() -> None:
    desk = Desk(GENERAL=1, slots=2)
    for n in range(5):
        desk.submit(f"j{n}")
    assert len(desk.running) == 2
    desk.finish("j0")
    assert sorted(desk.running) == ["j1", "j2"]


def test_the_least_loaded_worker_is_chosen() -> None:
    desk = Desk(GENERAL=2, slots=2)
    for n in range(4):
        desk.submit(f"j{n}")
    assert [desk.running[f"j{n}"] for n in range(4)] == ["GENERAL-1", "GENERAL-2", "GENERAL-1", "GENERAL-2"]


def test_tags_are_case_sensitive_and_a_job_nobody_can_run_delays_nobody() -> None:
    desk = Desk(GENERAL=1, GPU=1)
    desk.submit("never", tag="gpu", priority=1000)
    desk.submit("cpu")
    desk.submit("gpu", tag="GPU")
    assert desk.running == {"cpu": "GENERAL-1", "gpu": "GPU-1"}
    assert desk.scheduler.queue_lengths() == {"gpu": 1}
    desk.add_worker("late", "gpu")
    assert desk.running["never"] == "late"


def test_a_worker_with_two_tags_takes_the_best_job_of_either() -> None:
    desk = Desk()
    desk.submit("general", tag="GENERAL", priority=1)
    desk.submit("gpu", tag="GPU", priority=2)
    desk.add_worker("both", "GENERAL", "GPU")
    assert desk.run_all() == ["gpu", "general"]


def test_a_delay_counts_from_submission() -> None:
    desk = Desk(GENERAL=1, now=100.0)
    desk.submit("late", due=105.0)
    desk.submit("now")
    assert sorted(desk.running) == ["now"]
    desk.finish("now")
    assert desk.scheduler.next_due() == 105.0
    desk.tick(104.999)
    assert desk.running == {}
    desk.tick(105.0)
    assert list(desk.running) == ["late"]
    assert desk.scheduler.next_due() is None


def test_a_delay_over_while_waiting_for_a_parent_costs_nothing_more() -> None:
    desk = Desk(GENERAL=1, now=0.0)
    desk.submit("parent")
    desk.submit("child", parents=["parent"], due=5.0)
    desk.now = 6.0
    desk.finish("parent")
    assert list(desk.running) == ["child"]


def test_a_child_runs_after_all_its_parents_whatever_the_order_of_lines() -> None:
    desk = Desk(GENERAL=2)
    desk.submit_batch([{"job_id": "c", "parents": ["a", "b", "a"]}, {"job_id": "a"}, {"job_id": "b"}])
    assert sorted(desk.running) == ["a", "b"]
    desk.finish("a")
    assert "c" not in desk.running
    desk.finish("b")
    assert list(desk.running) == ["c"]


def test_a_parent_completed_earlier_counts() -> None:
    desk = Desk(GENERAL=1)
    desk.settled["old"] = Settled(COMPLETED, "GENERAL-1")
    desk.submit("child", parents=["old"])
    assert list(desk.running) == ["child"]


@pytest.mark.parametrize("status", [DEAD, CANCELLED])
def test_a_child_of_a_parent_that_ended_badly_earlier_is_dead_at_once(status: JobStatus) -> None:
    desk = Desk(GENERAL=1)
    desk.settled["old"] = Settled(status)
    desk.submit_batch(
        [{"job_id": "child", "parents": ["old"]}, {"job_id": "grandchild", "parents": ["child"]}]
    )
    assert desk.ended == {"child": DEAD, "grandchild": DEAD}
    assert desk.reasons["child"] == f"its parent old ended {status}"
    assert len(desk.scheduler) == 0


def test_a_parent_that_was_forgotten_meanwhile_ends_its_child_and_nothing_else() -> None:
    desk = Desk(GENERAL=1)
    desk.submit_batch([{"job_id": "child", "parents": ["forgotten"]}, {"job_id": "other"}])
    assert desk.ended == {"child": DEAD}
    assert desk.reasons["child"] == "its parent forgotten is not known any more"
    assert list(desk.running) == ["other"]


def test_descendants_of_a_dead_job_are_dead_and_others_are_not() -> None:
    desk = Desk(GENERAL=2)
    desk.submit_batch(
        [
            {"job_id": "root"},
            {"job_id": "other"},
            {"job_id": "child", "parents": ["root", "other"]},
            {"job_id": "grandchild", "parents": ["child"]},
            {"job_id": "nephew", "parents": ["other"]},
        ]
    )
    desk.finish("root", Outcome.FATAL)
    assert desk.ended == {"root": DEAD, "child": DEAD, "grandchild": DEAD}
    desk.finish("other")
    assert list(desk.running) == ["nephew"]


def test_a_failing_job_is_run_four_times() -> None:
    desk = Desk(GENERAL=1)
    desk.submit("bad")
    for attempt in range(1, 5):
        assert desk.attempts["bad"] == attempt
        desk.finish("bad", Outcome.FAILURE)
    assert desk.ended == {"bad": DEAD}
    assert desk.requeued == ["bad"] * 3


def test_a_failed_run_is_repeated_before_younger_jobs_of_its_priority() -> None:
    desk = Desk(GENERAL=1)
    desk.submit("bad")
    desk.submit("next")
    desk.finish("bad", Outcome.FAILURE)
    assert list(desk.running) == ["bad"]


def test_an_interrupted_run_does_not_count() -> None:
    desk = Desk(GENERAL=1)
    desk.submit("job")
    for _ in range(10):
        desk.finish("job", Outcome.INTERRUPTED)
        assert desk.attempts["job"] == 1


def test_affinity_prefers_the_worker_of_the_first_parent_to_complete() -> None:
    desk = Desk(GENERAL=3)
    for name in ("a", "b"):
        desk.submit(name)
    desk.submit("child", parents=["a", "b"], affinity=True)
    desk.finish("b")
    desk.finish("a")
    assert desk.running["child"] == "GENERAL-2"


def test_affinity_is_a_preference_only() -> None:
    desk = Desk(GENERAL=2)
    desk.submit("parent")
    desk.submit("child", parents=["parent"], affinity=True)
    desk.submit("greedy", priority=9)
    desk.submit("greedier", priority=10)
    assert desk.running == {"parent": "GENERAL-1", "greedy": "GENERAL-2"}
    desk.finish("parent")
    assert desk.running["greedier"] == "GENERAL-1"
    desk.finish("greedy")
    assert desk.running["child"] == "GENERAL-2"


def test_affinity_to_a_worker_without_the_tag_is_ignored() -> None:
    desk = Desk(GENERAL=1, GPU=1)
    desk.submit("parent")
    desk.submit("child", parents=["parent"], affinity=True, tag="GPU")
    desk.finish("parent")
    assert desk.running == {"child": "GPU-1"}


def test_a_service_takes_no_slot_and_needs_none() -> None:
    desk = Desk(GENERAL=1)
    desk.submit("job")
    desk.submit("service", service=True)
    desk.submit("waiting")
    assert desk.running == {"job": "GENERAL-1", "service": "GENERAL-1"}
    desk.finish("service")
    assert "waiting" not in desk.running


def test_a_service_waits_for_a_worker_with_its_tag() -> None:
    desk = Desk(GENERAL=1)
    desk.submit("service", service=True, tag="GPU")
    assert desk.running == {}
    assert desk.scheduler.queue_lengths() == {"GPU": 1}
    desk.add_worker("gpu", "GPU")
    assert desk.running == {"service": "gpu"}


def test_an_id_in_use_is_the_callers_mistake() -> None:
    desk = Desk(GENERAL=1)
    desk.submit("job")
    with pytest.raises(ValueError, match="unfinished"):
        desk.submit("job")


def test_a_lost_worker_takes_no_more_jobs_and_its_runs_go_elsewhere() -> None:
    desk = Desk(GENERAL=2)
    desk.submit("a")
    desk.submit("b")
    desk.remove_worker("GENERAL-1")
    assert desk.killed == ["a"]
    desk.finish("a", Outcome.FAILURE)
    desk.finish("b")
    assert desk.running == {"a": "GENERAL-2"}
    desk.remove_worker("GENERAL-1")
    assert desk.killed == ["a"]
