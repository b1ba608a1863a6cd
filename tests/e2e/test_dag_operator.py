"""TitanDagOperator under kills, clears and marks: only what did not succeed runs again."""

from __future__ import annotations

import signal

import pytest

from tests.e2e.lab import Run, Standalone
from tests.support.airflow_run import unique
from titan_sdk import JobStatus

BOTH = pytest.mark.parametrize("mode", ["sync", "deferred"])
JOBS = ("first", "then")


def begin(airflow: Standalone, mode: str, kind: str) -> Run:
    """A run whose first job is running and whose task waits."""
    run = airflow.trigger(f"jobs_{mode}_{kind}", unique("jobs"))
    run.started("first")
    run.wait_for("running" if mode == "sync" else "deferred")
    return run


def check_results(run: Run) -> None:
    result = run.result()
    assert {name: result[name]["job"] for name in JOBS} == {name: run.starts(name)[-1] for name in JOBS}


@BOTH
def test_a_clear_runs_only_what_did_not_succeed(airflow: Standalone, mode: str) -> None:
    run = begin(airflow, mode, "once")
    run.open_gate("then", "fail")
    run.open_gate("first")
    run.wait_for("failed")
    run.open_gate("then")
    run.clear()
    run.wait_for("success")
    assert [len(run.starts(name)) for name in JOBS] == [1, 2]
    check_results(run)


def test_a_killed_task_takes_its_jobs_up(airflow: Standalone) -> None:
    run = begin(airflow, "sync", "retried")
    run.kill_task(signal.SIGKILL)
    airflow.until(lambda: run.tasks()[0]["try_number"] == 2 and run.state() == "running", "the second try")
    for name in JOBS:
        run.open_gate(name)
    run.wait_for("success")
    assert [len(run.starts(name)) for name in JOBS] == [1, 1]
    check_results(run)


def test_a_killed_triggerer_ends_no_job(airflow: Standalone) -> None:
    run = begin(airflow, "deferred", "once")
    airflow.kill("triggerer")
    airflow.start("triggerer")
    for name in JOBS:
        run.open_gate(name)
    run.wait_for("success")
    assert [len(run.starts(name)) for name in JOBS] == [1, 1]
    check_results(run)


@BOTH
def test_a_mark_ends_every_job(airflow: Standalone, mode: str) -> None:
    run = begin(airflow, mode, "once")
    if mode == "deferred":
        # Its trigger has begun to wait: only then does a triggerer hear of a kill.
        airflow.until(lambda: run.printed(), "the trigger copies the log")
    run.mark("failed")
    run.wait_for_job(run.starts("first")[0], JobStatus.CANCELLED)
    run.open_gate("then")
    assert run.starts("then") == []
