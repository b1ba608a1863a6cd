"""How many jobs are ready beyond the places: arithmetic on given times, no Ray."""

from __future__ import annotations

import math

from titan_sdk.cluster.engines.ray.prefetch import COVERED_SECONDS, Prefetch


def end_jobs(prefetch: Prefetch, count: int, each: float, *, start: float = 0.0) -> list[bool]:
    return [prefetch.ended("GPU", start + n * each) for n in range(count)]


def test_the_given_number_is_ready_before_anything_has_ended() -> None:
    assert Prefetch(2).wanted("GPU", 5.0) == 2


def test_as_many_are_ready_as_end_while_the_front_hears_of_it() -> None:
    prefetch = Prefetch(2)
    end_jobs(prefetch, 257, 1 / 64)  # an exact number, and the windows end with it
    assert prefetch.wanted("GPU", 4.0) == math.ceil(64 * COVERED_SECONDS)
    assert prefetch.wanted("GENERAL", 3.0) == 2


def test_slow_jobs_are_not_given_away_beyond_the_least() -> None:
    prefetch = Prefetch(1)
    end_jobs(prefetch, 10, 2.0)
    assert prefetch.wanted("GPU", 18.0) == 1


def test_what_was_fast_once_is_forgotten_when_nothing_ends_any_more() -> None:
    prefetch = Prefetch(2)
    end_jobs(prefetch, 500, 0.004)
    assert prefetch.wanted("GPU", 2.0) > 30
    assert prefetch.wanted("GPU", 60.0) == 2


def test_a_change_is_told_after_some_ends_or_a_while_and_not_with_every_end() -> None:
    # Faster than before: soon.
    assert [n for n, told in enumerate(end_jobs(Prefetch(2), 300, 1 / 512), 1) if told] == [10, 138, 266]
    assert [n for n, told in enumerate(end_jobs(Prefetch(2), 9, 0.125), 1) if told] == [3, 5, 7, 9]


def test_ends_that_are_told_many_at_a_time_do_not_make_the_number_jump() -> None:
    prefetch, seen = Prefetch(2), []
    for n in range(100):
        for _ in range(8):
            prefetch.ended("GPU", n * 0.1)
        seen.append(prefetch.wanted("GPU", n * 0.1))
    assert 10 <= min(seen[20:]) <= max(seen[20:]) <= 15  # 80 a second


def test_the_total_is_of_all_tags_that_anything_has_ended_of() -> None:
    prefetch = Prefetch(3)
    assert prefetch.total(0.0) == 0
    for tag in ("GPU", "GENERAL"):
        prefetch.ended(tag, 0.0)
    assert prefetch.total(0.1) == 6


def test_none_means_none_however_fast_jobs_end() -> None:
    prefetch = Prefetch(0)
    assert not any(end_jobs(prefetch, 1000, 0.001))
    assert prefetch.wanted("GPU", 1.0) == 0
