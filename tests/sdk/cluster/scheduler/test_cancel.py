from __future__ import annotations

import pytest

from tests.sdk.cluster.scheduler.desk import Desk
from titan_sdk.cluster.master.scheduler import Outcome
from titan_sdk.model.status import JobStatus

CANCELLED, DEAD = JobStatus.CANCELLED, JobStatus.DEAD


@pytest.mark.parametrize("state", ["waiting", "delayed", "ready"])
def test_what_does_not_run_is_cancelled_at_once(state: str) -> None:
    desk = Desk(GENERAL=1)
    desk.submit("busy")
    more = {"waiting": {"parents": ["busy"]}, "delayed": {"due": 9.0}, "ready": {}}[state]
    desk.submit("job", **more)
    desk.submit("child", parents=["job"])
    assert desk.cancel("job")
    assert desk.ended == {"job": CANCELLED, "child": DEAD}
    assert desk.killed == []
    desk.tick(10.0)
    desk.finish("busy")
    assert desk.running == {}
    assert desk.scheduler.queue_lengths() == {}
    assert desk.scheduler.next_due() is None


def test_a_running_job_holds_its_slot_until_it_is_gone() -> None:
    desk = Desk(GENERAL=1)
    desk.submit("job")
    desk.submit("next")
    desk.submit("child", parents=["job"])
    assert desk.cancel("job")
    assert desk.killed == ["job"]
    assert desk.ended == {"job": CANCELLED, "child": DEAD}
    assert desk.scheduler.is_stopping("job")
    assert "next" not in desk.running
    desk.finish("job", Outcome.FAILURE)
    assert desk.running == {"next": "GENERAL-1"}
    assert not desk.scheduler.is_stopping("job")
    assert desk.requeued == []


def test_a_second_cancel_and_an_unknown_id_find_nothing() -> None:
    desk = Desk(GENERAL=1)
    desk.submit("job")
    desk.cancel("job")
    assert not desk.cancel("job")
    assert not desk.cancel("nobody")
    assert desk.ended == {"job": CANCELLED}


def test_a_cancelled_id_can_be_submitted_again() -> None:
    desk = Desk(GENERAL=1)
    desk.submit("busy")
    desk.submit("job")
    desk.cancel("job")
    desk.submit("job")
    desk.finish("busy")
    assert desk.running == {"job": "GENERAL-1"}
    assert desk.attempts["job"] == 1
    desk.finish("job")
    assert desk.ended["job"] is JobStatus.COMPLETED


def test_the_exit_of_a_run_nobody_knows_changes_nothing() -> None:
    desk = Desk(GENERAL=1)
    assert desk.scheduler.exited("ghost", Outcome.SUCCESS, None, 0.0) == []


def test_many_cancelled_jobs_do_not_stay_in_memory() -> None:
    desk = Desk()
    for n in range(2000):
        desk.submit(f"ready{n}", tag="NOBODY")
        desk.submit(f"late{n}", due=100.0 + n)
        desk.cancel(f"ready{n}")
        desk.cancel(f"late{n}")
    assert len(desk.scheduler) == 0
    assert desk.scheduler.delayed == 0
    assert desk.scheduler.queue_lengths() == {}
    assert len(desk.scheduler._delayed._heap) < 100
    desk.submit("survivor", tag="NOBODY")
    for n in range(500):
        desk.submit(f"again{n}", tag="NOBODY", priority=2)
        desk.cancel(f"again{n}")
    assert len(desk.scheduler._ready.by_tag["NOBODY"]._heap) < 200
    desk.add_worker("w", "NOBODY")
    assert list(desk.running) == ["survivor"]
