"""One cell of the table: a run is brought to where the situation happens, and what came of it is checked."""

from __future__ import annotations

from tests.e2e.lab import Lab, Run
from tests.e2e.situations import (
    ALIVE,
    CANCELLED,
    DEFERRED,
    ENDED,
    LEASE,
    MAPPED,
    Situation,
)
from tests.support.airflow_run import unique
from titan_sdk import JobStatus


def check_cell(lab: Lab, situation: Situation, mode: str) -> None:
    cell = situation.cells[mode]
    run = begin(lab, situation, mode)
    first = run.starts()[0]
    situation.happen(run)
    check_job(run, first, cell.job)
    if not situation.all_instances:
        other_goes_on(run)
    run.open_gate()
    run.wait_for(cell.task)
    run.wait_until_jobs_end()
    assert len(run.starts()) == cell.starts
    assert len(set(run.starts())) == cell.starts
    if cell.task == "success" and situation.name != "mark_success":
        run.lab.until(lambda: run.result()["job"] == run.starts()[-1], "the result of the last job")
    if cell.job == ALIVE and cell.task == "success":
        attempt = run.tasks()[0]["try_number"]
        assert run.printed(attempt=attempt) == list(range(run.result()["lines"]))


def begin(lab: Lab, situation: Situation, mode: str) -> Run:
    """A run whose jobs are running and whose task waits for them."""
    folder = "mappedsync" if situation.process and mode == MAPPED else mode
    run = lab.trigger(f"{folder}_{situation.kind}", unique(situation.name))
    for index in range(2 if mode == MAPPED else 1):
        run.started(index)
        waits = DEFERRED if run.mode in (DEFERRED, MAPPED) else "running"
        run.wait_for(waits, index)
        if waits == DEFERRED:
            # Its trigger has begun to wait: only then does a triggerer hear of a kill.
            lab.until(lambda index=index: run.printed(index), "the trigger copies the log")
    return run


def check_job(run: Run, job_id: str, fate: str) -> None:
    if fate == ALIVE:
        assert run.lab.client.get_job_status(job_id) is JobStatus.RUNNING
    elif fate == CANCELLED:
        run.wait_for_job(job_id, JobStatus.CANCELLED)
    elif fate == LEASE:
        run.wait_for_job(job_id, JobStatus.DEAD, seconds=40)
        assert "nobody has renewed its owner's lease" in run.lab.client.job_report(job_id).describe()
    else:
        assert fate == ENDED
        assert run.is_over(job_id)


def other_goes_on(run: Run) -> None:
    """The other mapped instance was not meant: it ends as if nothing had happened."""
    if run.is_mapped:
        run.open_gate(1)
        run.wait_for("success", 1)
        assert len(run.starts(1)) == 1
        assert run.result(1)["job"] == run.starts(1)[0]
