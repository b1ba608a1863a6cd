"""How a deferred task goes on, whatever resumed it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from titan_provider.compat import TaskDeferralError, TaskDeferralTimeout
from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanJobTimedOut
from titan_provider.operators.titan import TitanJobOperator
from titan_provider.work.plan import Record
from titan_provider.work.records import AirflowRecords
from titan_sdk import JobStatus, TitanClient

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_connection")]


class State(dict[str, Any]):
    set = dict.__setitem__


def context_of(job_id: str) -> Any:
    """A task that has recorded the submission of a job."""
    state = State()
    AirflowRecords(state).save(Record(job_id, "", 0, 0).to_json(), "")
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1, max_tries=0)
    run = SimpleNamespace(clear_number=0, start_date=None)
    return {"task_state_store": state, "ti": ti, "dag_run": run}


def task(**arguments: Any) -> TitanJobOperator:
    return TitanJobOperator(task_id="t", script="print(1)", deferrable=True, **arguments)


def event(job_id: str, outcome: Outcome = Outcome.ENDED, status: JobStatus = JobStatus.COMPLETED) -> Any:
    return JobEvent(outcome, {job_id: status}, message="what happened").to_dict()


@pytest.mark.parametrize("outcome", [Outcome.ENDED, Outcome.TIMED_OUT, Outcome.FAILED, Outcome.ADMITTED])
def test_an_event_about_another_job_is_not_believed(
    submit: Callable[..., str], client: TitanClient, outcome: Outcome
) -> None:
    """After a clear the old trigger fires once more; SQLite gives its number to the new trigger."""
    mine = submit("print(1)", requirement="QUANTUM")
    with pytest.raises(TaskDeferred) as deferred:
        task().execute_complete(context_of(mine), event("old-job", outcome, JobStatus.CANCELLED))
    assert deferred.value.trigger.job_id == mine
    assert client.get_job_status(mine) is JobStatus.PENDING
    client.cancel_job(mine)


def test_an_event_about_this_tries_job_is(submit: Callable[..., str], client: TitanClient) -> None:
    mine = submit("import titan_job; titan_job.result(5)")
    client.wait_for_job(mine, timeout=120)
    assert task().execute_complete(context_of(mine), event(mine)) == 5
    with pytest.raises(TitanJobTimedOut, match="what happened"):
        task().execute_complete(context_of(mine), event(mine, Outcome.TIMED_OUT))


@pytest.mark.parametrize("outcome", [Outcome.ADMITTED, Outcome.ENDED])
def test_an_admission_goes_on_with_the_admitted_job_and_anything_else_starts_over(
    outcome: Outcome, client: TitanClient
) -> None:
    here = context_of("unknown-old-job")
    with pytest.raises(TaskDeferred) as deferred:
        task(do_xcom_push=False).execute_admitted(here, event("admitted-job", outcome))
    submitted = deferred.value.trigger.job_id
    assert (submitted == "admitted-job") == (outcome is Outcome.ADMITTED)
    assert client.wait_for_job(submitted, timeout=120).state.is_success


@pytest.mark.parametrize("error", ["Trigger timeout", "Trigger failure"])
def test_a_wait_that_airflow_breaks_off_takes_the_job_along(
    submit: Callable[..., str], client: TitanClient, error: str
) -> None:
    """No triggerer ran until the trigger's timeout: Airflow resumes the task only to fail it."""
    mine = submit("import time; time.sleep(600)")
    with pytest.raises((TaskDeferralError, TaskDeferralTimeout)):
        task().resume_execution("__fail__", {"error": error}, context_of(mine))
    assert client.get_job_status(mine) is JobStatus.CANCELLED


def test_unless_told_not_to(submit: Callable[..., str], client: TitanClient) -> None:
    mine = submit("print(1)", requirement="QUANTUM")
    with pytest.raises((TaskDeferralError, TaskDeferralTimeout)):
        task(cancel_on_kill=False).resume_execution("__fail__", {"error": "x"}, context_of(mine))
    assert client.get_job_status(mine) is JobStatus.PENDING
    client.cancel_job(mine)
