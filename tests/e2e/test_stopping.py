"""A script that needs four seconds to stop, in a task that is marked, cleared or terminated: it has them, and its next run
begins after them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.e2e.lab import Run, Standalone
from tests.support.airflow_run import unique


def order(run: Run) -> list[str]:
    path = run.lab.folder / f"{run.run_id}.0.order"
    return path.read_text().split() if path.exists() else []


def begin(airflow: Standalone, mode: str) -> Run:
    run = airflow.trigger(f"{mode}_stops", unique("stops"))
    run.started()
    run.wait_for("running" if mode == "sync" else "deferred")
    if mode == "deferred":
        # Its trigger has begun to wait: only then does a triggerer hear of a kill.
        airflow.until(lambda: run.printed(), "the trigger copies the log")
    return run


@pytest.mark.parametrize("mode", ["sync", "deferred"])
def test_a_mark_lets_the_script_stop_in_its_own_way(airflow: Standalone, mode: str) -> None:
    run = begin(airflow, mode)
    run.mark("failed")
    airflow.until(lambda: order(run) == ["begin", "end"], "the script has stopped in its own way")


def terminate(run: Run) -> None:
    run.kill_task(signal.SIGTERM)


@pytest.mark.parametrize(
    ("mode", "stop"),
    [("sync", Run.clear), ("deferred", Run.clear), ("sync", terminate)],
    ids=["sync-cleared", "deferred-cleared", "sync-terminated"],
)
def test_the_next_try_begins_after_that(airflow: Standalone, mode: str, stop: Callable[[Run], None]) -> None:
    run = begin(airflow, mode)
    stop(run)
    run.started(times=2)
    assert order(run) == ["begin", "end", "begin"]
    run.open_gate()
    run.wait_for("success")
