"""A real worker that is told to cancel while it starts the job finds no process; the job must end all the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

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


class Asked(dict[str, str]):
    """Says CANCELLED, and leaves a file once it has been asked again."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.times = path, 0

    def get(self, key: str, default: object = None) -> str:  # type: ignore[override]
        self.times += 1
        if self.times > 1:
            self.path.touch()
        return "CANCELLED"


def test_a_cancel_that_is_noticed_in_the_grace_was_not_lost(bench: Bench) -> None:
    """A job may need longer to stop than it is until its runtime looks at its status."""
    go, ready = bench.shared / "go", bench.fifo()
    spec = bench.spec(
        "import os, signal, sys, time\n"
        "def stop(*_):\n"
        f"    while not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"open({str(ready)!r}, 'w').close()\n"
        "time.sleep(600)",
        cancel_grace=300.0,
    )
    running = bench.start(spec, TITAN_RUNTIME_HEARTBEAT="0.2")
    ready.open().close()
    os.kill(running.pid, signal.SIGTERM)
    bench.store.statuses = Asked(go)
    assert running.wait().code == 143
    assert bench.state(spec).cancelled
    assert bench.log(spec) == "titan-runtime: it was cancelled\n"
