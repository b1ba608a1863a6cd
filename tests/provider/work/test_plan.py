from __future__ import annotations

import json
from dataclasses import replace

import pytest

from titan_provider.work.jobs import NamedJob
from titan_provider.work.plan import ONLY, Plan, Record, WorkRecord, make_plan
from titan_provider.work.source import Script
from titan_sdk import JobStatus

FIRST = Record("first", "0" * 16, max_tries=2, clear_number=0, run_started="Monday")
RETRY = Record("second", "1" * 16, max_tries=2, clear_number=0, run_started="Monday")
AFTER_CLEAR = replace(RETRY, max_tries=3, clear_number=1)
AFTER_CLEAR_WHILE_RUNNING = replace(RETRY, clear_number=1)
RUN_MADE_AGAIN = replace(RETRY, run_started="Tuesday")


def plan_for(new: Record, status: JobStatus) -> Plan:
    """Of a task of one job, which is a DAG of one."""
    job = NamedJob(ONLY, (), Script("a.py"), {}, "")
    return make_plan(WorkRecord.of_one(FIRST), new, [job], {ONLY: status})


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.RUNNING, JobStatus.COMPLETED])
def test_after_a_crash_a_job_that_goes_on_or_succeeded_is_taken_up(status: JobStatus) -> None:
    assert plan_for(RETRY, status) == Plan(attach=True)


@pytest.mark.parametrize("status", [JobStatus.DEAD, JobStatus.CANCELLED, JobStatus.UNKNOWN])
def test_after_a_failure_or_a_crash_before_the_submit_a_new_job_is_sent(status: JobStatus) -> None:
    assert plan_for(RETRY, status) == Plan(keep={})


@pytest.mark.parametrize("new", [AFTER_CLEAR, AFTER_CLEAR_WHILE_RUNNING, RUN_MADE_AGAIN])
@pytest.mark.parametrize("status", JobStatus)
def test_after_a_clear_no_old_result_comes_back_and_no_old_job_goes_on(
    new: Record, status: JobStatus
) -> None:
    goes_on = status in (JobStatus.PENDING, JobStatus.RUNNING)
    assert plan_for(new, status) == Plan(cancel=("first",) if goes_on else (), keep={})


def test_a_record_survives_the_state_store() -> None:
    assert Record.from_json(json.loads(json.dumps(FIRST.to_json()))) == FIRST


@pytest.mark.parametrize("value", [None, "job-1", {}, {"v": 2, "job_id": "x"}])
def test_what_is_no_record_of_this_version_is_ignored(value: object) -> None:
    assert Record.from_json(value) is None
