"""A real worker that is told to cancel while it starts the job finds no process; the job must end all the same."""

from __future__ import annotations

import pytest

from tests.support.runtime_bench import Bench


@pytest.mark.parametrize("before_the_start", [True, False])
def test_a_cancel_that_the_worker_lost_ends_the_job(bench: Bench, before_the_start: bool) -> None:
    spec = bench.spec("import time\ntime.sleep(600)")
    if before_the_start:
        bench.store.statuses[spec.job_id] = "CANCELLED"
    running = bench.start(spec, TITAN_RUNTIME_HEARTBEAT="0.2")
    if not before_the_start:
        bench.store.wait_until(lambda: bench.has_state(spec, "running"))
        bench.store.statuses[spec.job_id] = "CANCELLED"
    assert running.wait().code == 143
    assert bench.state(spec).reason == "it was cancelled on the master, and the worker had not ended it"
    assert bench.leftovers() == []


def test_other_words_end_nothing(bench: Bench) -> None:
    spec = bench.spec("import time\ntime.sleep(0.5)")
    bench.store.statuses[spec.job_id] = "DEAD"
    assert bench.run(spec, TITAN_RUNTIME_HEARTBEAT="0.1").code == 0
