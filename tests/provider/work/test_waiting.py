from __future__ import annotations

import pytest

from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.work.waiting import Patience, jittered
from titan_provider.work.watch import OwnerLease, why_waiting
from titan_sdk import ClusterStats, ConnectFailed, WorkerStats

DOWN = ConnectFailed("cannot connect to 10.0.0.1:9090")


def worker(tag: str, running: int, slots: int = 1) -> WorkerStats:
    return WorkerStats(name=tag, port=1, tags=(tag,), running=running, slots=slots)


def test_patience_ends_after_its_time_and_says_what_it_saw() -> None:
    clock = iter([0.0, 0.0, 30.0, 61.0]).__next__
    patience = Patience(60.0, clock)
    assert patience.failed(DOWN) <= 1.0
    assert patience.is_first_failure
    assert patience.failed(DOWN) <= 2.0
    assert not patience.is_first_failure
    with pytest.raises(TitanMasterUnreachable, match=r"may still be running.*10\.0\.0\.1:9090"):
        patience.failed(DOWN)


def test_an_answer_fills_the_budget_again() -> None:
    clock = iter([0.0, 0.0, 100.0, 100.0]).__next__
    patience = Patience(60.0, clock)
    patience.failed(DOWN)
    patience.succeeded()
    patience.failed(DOWN)
    assert patience.is_first_failure


def test_pauses_grow_but_never_beyond_the_budget() -> None:
    patience = Patience(10.0, lambda: 0.0)
    pauses = [patience.failed(DOWN) for _ in range(8)]
    assert pauses[0] <= 1.0 < 2.0 <= max(pauses) <= 10.0


def test_jitter_never_lengthens_a_pause() -> None:
    assert all(0.75 <= jittered(1.0) <= 1.0 for _ in range(100))


@pytest.mark.parametrize(
    ("stats", "sentence"),
    [
        (ClusterStats(), "the cluster has no workers"),
        (ClusterStats((worker("GENERAL", 0),)), "no worker has the tag 'GPU' (tags present: GENERAL)"),
        (
            ClusterStats((worker("GPU", 4, 4), worker("GENERAL", 0)), queue_size=7),
            "all 4 slots with the tag 'GPU' are taken, and 7 jobs wait in all",
        ),
    ],
)
def test_why_a_job_waits(stats: ClusterStats, sentence: str) -> None:
    assert why_waiting(stats, "GPU") == sentence


def test_a_free_slot_is_no_reason_to_wait() -> None:
    assert "should start at any moment" in why_waiting(ClusterStats((worker("GPU", 0),)), "GPU")


def test_a_lease_is_due_at_once_and_then_several_times_per_length() -> None:
    clock = iter([0.0, 0.0, 0.0, 5.0, 15.0, 15.0]).__next__
    lease = OwnerLease(60.0, clock)
    assert lease.pause == 15.0
    assert [lease.is_due() for _ in range(3)] == [True, False, True]


def test_without_a_lease_nothing_is_due() -> None:
    assert not OwnerLease(None).is_due()
