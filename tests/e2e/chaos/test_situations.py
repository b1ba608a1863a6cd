"""Situation x mode, as docs/durability.md tabulates it. Each test is one row, each parameter one cell."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.e2e.chaos.lab import Lab, Run
from tests.support.airflow_run import unique
from titan_sdk import JobStatus

SYNC, DEFERRED, MAPPED = "sync", "deferred", "mapped"
ALL = pytest.mark.parametrize("mode", [SYNC, DEFERRED, MAPPED])
WAITING = pytest.mark.parametrize("mode", [DEFERRED, MAPPED])

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def begin(lab: Lab) -> Callable[..., tuple[Run, str]]:
    """A run whose jobs are running and whose task waits for them; with the id of the first one."""

    def go(mode: str, kind: str) -> tuple[Run, str]:
        run = lab.trigger(f"{mode}_{kind}", unique(kind))
        job_id = run.started()
        if mode == MAPPED:
            run.started(1)
        run.wait_for("running" if mode == SYNC else "deferred")
        if mode != SYNC:
            # Its trigger has begun to wait: only then does a triggerer hear of a kill.
            lab.until(lambda: run.printed(), "the trigger copies the log")
        return run, job_id

    return go


def other_goes_on(run: Run, mode: str) -> None:
    """The other mapped instance was not meant: it ends as if nothing had happened."""
    if mode == MAPPED:
        run.open_gate(1)
        run.wait_for("success", 1)
        assert len(run.starts(1)) == 1


def finish(run: Run, starts: int) -> None:
    """Let the job end, and the task with it, with the result of the last job."""
    run.open_gate()
    run.wait_for("success")
    assert len(run.starts()) == starts
    assert run.result()["job"] == run.starts()[-1]


def test_sigterm_of_the_task_process(begin: Callable[..., tuple[Run, str]]) -> None:
    run, job_id = begin(SYNC, "once")
    run.kill_task(signal.SIGTERM)
    run.wait_for_job(job_id, JobStatus.CANCELLED, seconds=10)
    run.wait_for("failed")


def test_sigkill_of_the_task_process_then_a_retry(begin: Callable[..., tuple[Run, str]]) -> None:
    run, _ = begin(SYNC, "retried")
    run.kill_task(signal.SIGKILL)
    run.lab.until(lambda: run.tasks()[0]["try_number"] == 2 and run.state() == "running", "the second try")
    finish(run, starts=1)


def test_sigkill_of_the_task_process_with_no_try_left(begin: Callable[..., tuple[Run, str]]) -> None:
    run, job_id = begin(SYNC, "leased")
    run.kill_task(signal.SIGKILL)
    run.wait_for_job(job_id, JobStatus.DEAD, seconds=40)
    assert "nobody has renewed its owner's lease" in run.lab.client.job_report(job_id).describe()
    run.wait_for("failed")


@ALL
def test_marked_failed(begin: Callable[..., tuple[Run, str]], mode: str) -> None:
    run, job_id = begin(mode, "once")
    run.mark("failed")
    run.wait_for_job(job_id, JobStatus.CANCELLED)
    other_goes_on(run, mode)


@ALL
def test_marked_success(begin: Callable[..., tuple[Run, str]], mode: str) -> None:
    run, job_id = begin(mode, "once")
    run.mark("success")
    run.wait_for_job(job_id, JobStatus.CANCELLED)
    assert run.state() == "success"
    other_goes_on(run, mode)


@ALL
def test_cleared_while_it_waits(begin: Callable[..., tuple[Run, str]], mode: str) -> None:
    """The old job ends; the new one survives the old trigger's late `on_kill`."""
    run, job_id = begin(mode, "once")
    run.clear()
    second = run.started(times=2)
    run.wait_for_job(job_id, JobStatus.CANCELLED)
    run.wait_for("running" if mode == SYNC else "deferred")
    other_goes_on(run, mode)
    assert run.lab.client.get_job_status(second) is JobStatus.RUNNING
    finish(run, starts=2)


@ALL
def test_cleared_after_success(begin: Callable[..., tuple[Run, str]], mode: str) -> None:
    run, job_id = begin(mode, "once")
    finish(run, starts=1)
    other_goes_on(run, mode)
    run.clear()
    assert run.started(times=2) != job_id
    run.wait_for("success")
    run.lab.until(lambda: run.result()["job"] != job_id, "the new result")


@ALL
def test_execution_timeout(begin: Callable[..., tuple[Run, str]], mode: str) -> None:
    run, job_id = begin(mode, "limited")
    run.wait_for_job(job_id, JobStatus.CANCELLED)
    run.wait_for("failed")


@ALL
def test_dag_run_timeout(begin: Callable[..., tuple[Run, str]], mode: str) -> None:
    run, job_id = begin(mode, "runlimited")
    run.wait_for_job(job_id, JobStatus.CANCELLED)
    run.wait_for("skipped")


@WAITING
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_triggerer_ends_and_another_takes_over(
    lab: Lab, begin: Callable[..., tuple[Run, str]], mode: str, number: int
) -> None:
    """The job goes on, and its log is shown whole, in order, each line once."""
    run, job_id = begin(mode, "once")
    lab.kill_triggerer(number)
    assert lab.client.get_job_status(job_id) is JobStatus.RUNNING
    lab.start_triggerer()
    copied = len(run.printed())
    lab.until(lambda: len(run.printed()) > copied, "the new triggerer copies the log", 90)
    finish(run, starts=1)
    assert run.printed() == list(range(run.result()["lines"]))
    other_goes_on(run, mode)


@WAITING
def test_marked_failed_before_any_trigger_ran(
    lab: Lab, begin: Callable[..., tuple[Run, str]], mode: str
) -> None:
    """Nothing of Airflow tells the job's side then; the owner's lease does."""
    lab.kill_triggerer()
    try:
        run = lab.trigger(f"{mode}_leased", unique("leased"))
        job_id = run.started()
        run.wait_for("deferred")
        run.mark("failed")
        run.wait_for_job(job_id, JobStatus.DEAD, seconds=40)
    finally:
        lab.start_triggerer()
        lab.until(lab.triggerer_pids, "the triggerer is back")
