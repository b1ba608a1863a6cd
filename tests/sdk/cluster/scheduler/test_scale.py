"""The cost of a step must not grow with what is queued."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.sdk.cluster.scheduler.desk import Desk


def _per_step(work: Callable[[int], None], steps: int) -> float:
    """Seconds per step, the better of three tries: other programs only ever make it slower."""
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        work(steps)
        best = min(best, (time.process_time() - begin) / steps)
    return best


def _churn(queued: int) -> float:
    desk = Desk(GENERAL=2)
    for n in range(queued):
        desk.submit(f"queued{n}", priority=n % 7)
    counter = iter(range(10**9))

    def work(steps: int) -> None:
        for _ in range(steps):
            desk.submit(f"new{next(counter)}")
            desk.finish(next(iter(desk.running)))

    return _per_step(work, 300)


def test_a_step_with_ten_thousand_jobs_queued_costs_about_what_it_costs_with_a_hundred() -> None:
    assert _churn(10_000) < 5 * _churn(100)


def test_a_chain_of_five_thousand_runs_and_dies_without_recursion() -> None:
    desk = Desk(GENERAL=1)
    chain = [{"job_id": f"j{n}", "parents": [f"j{n - 1}"] if n else []} for n in range(5000)]
    desk.submit_batch(reversed(chain))
    for n in range(10):
        desk.finish(f"j{n}")
    desk.cancel("j10")
    assert len(desk.ended) == 5000


def test_a_wide_dag_of_five_thousand_costs_about_the_same_per_job_as_one_of_five_hundred() -> None:
    def run(size: int) -> None:
        desk = Desk(GENERAL=4, slots=8)
        desk.submit_batch(
            [{"job_id": "root"}, *({"job_id": f"j{n}", "parents": ["root"]} for n in range(size - 1))]
        )
        desk.run_all()

    assert _per_step(run, 5000) < 5 * _per_step(run, 500)
