"""Every change of a job on every kind of row, against what a job's life is."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from titan_sdk.cluster.store.changes import (
    SetEnded,
    SetGone,
    SetPending,
    SetPlaced,
    SetRunning,
    SetService,
)
from titan_sdk.cluster.store.job_table import Step, fresh, is_settled, transition
from titan_sdk.cluster.store.rows import JobRow, NewJob, ServiceState
from titan_sdk.model.status import JobStatus

STATUSES = list(JobStatus)
HANDLES = [None, "handle"]
SERVICES = [ServiceState.NO, ServiceState.DEPLOYING, ServiceState.LIVE]
RUNS = [None, "run1", "run2"]
ROWS = [
    JobRow("DAG-a", 7, status, (("DAG-p", 3),), 1, "w", run, handle, 5, "why", service, 1.0, 2.0, 3.0, 4.0)
    for status, handle, service, run in itertools.product(STATUSES, HANDLES, SERVICES, RUNS)
]
CHANGES: dict[Step, set[str]] = {
    SetRunning(7, "other", "run3", "h3", 2, 9.0): {
        "status",
        "worker",
        "run",
        "handle",
        "attempts",
        "started_at",
    },
    SetPlaced(7, "other", 9.0): {"worker", "started_at"},
    SetPending(7, 0, 8): {"status", "handle", "attempts", "exit_code"},
    SetEnded(7, JobStatus.CANCELLED, 8, "other", 9.0): {"status", "exit_code", "reason", "ended_at"},
    SetEnded(7, JobStatus.DEAD, 8, None, 9.0, gone=True): {
        "status",
        "exit_code",
        "reason",
        "ended_at",
        "handle",
    },
    SetGone(7, "run1"): {"handle"},
    SetService(7, ServiceState.LIVE): {"service"},
    SetService(7, ServiceState.DEPLOYING): {"service"},
}
"""Each change, and what it may change."""


@pytest.mark.parametrize("change", CHANGES, ids=repr)
def test_a_change_changes_what_it_is_about_and_is_done_once(change: Step) -> None:
    for row in ROWS:
        before = dataclasses.asdict(row)
        after = transition(row, change)
        assert dataclasses.asdict(row) == before
        changed = {name for name, value in dataclasses.asdict(after).items() if value != before[name]}
        assert changed <= CHANGES[change]
        assert transition(after, change) == after
        for field in dataclasses.fields(change):
            same = {"attempt": "attempts", "state": "service"}.get(field.name, field.name)
            given = getattr(change, field.name)
            if same in CHANGES[change] and not (same == "status" and row.service == ServiceState.LIVE):
                assert getattr(after, same) == given
            elif field.name == "at":
                assert given in {after.started_at, after.ended_at}


def test_a_live_service_keeps_its_status_when_it_is_started_again() -> None:
    for row in ROWS:
        status = transition(row, SetRunning(7, "w", "r", "h", 1, 1.0)).status
        assert status == (row.status if row.service == ServiceState.LIVE else JobStatus.RUNNING)


def test_a_run_that_is_gone_takes_only_its_own_handle() -> None:
    for row in ROWS:
        handle = transition(row, SetGone(7, "run1")).handle
        assert handle == (None if row.run == "run1" else row.handle)


def test_a_queued_job_has_nothing_alive_and_an_end_keeps_the_handle_unless_its_run_is_gone() -> None:
    for row in ROWS:
        queued = transition(row, SetPending(7, 3, None))
        assert (queued.status, queued.handle, queued.run) == (JobStatus.PENDING, None, row.run)
        for gone, handle in ((False, row.handle), (True, None)):
            ended = transition(row, SetEnded(7, JobStatus.DEAD, 1, "x", 9.0, gone))
            assert (ended.handle, ended.ended_at, ended.started_at) == (handle, 9.0, row.started_at)


def test_what_is_settled() -> None:
    for row in ROWS:
        alive = row.handle is not None or row.service == ServiceState.LIVE
        assert is_settled(row) == (row.status.is_terminal and not alive)


@pytest.mark.parametrize("service", [False, True])
def test_a_submission_begins_afresh(service: bool) -> None:
    row = fresh(NewJob("DAG-a", 7, "line", (("DAG-p", 3),), service, 1.0, 2.0))
    assert (row.job_id, row.seq, row.status, row.parents) == ("DAG-a", 7, JobStatus.PENDING, (("DAG-p", 3),))
    assert (row.service, row.submitted_at, row.due, row.attempts) == (int(service), 1.0, 2.0, 0)
    rest = (row.worker, row.run, row.handle, row.exit_code, row.reason, row.started_at, row.ended_at)
    assert rest == (None,) * 7
