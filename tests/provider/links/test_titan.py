from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.airflow_run import Outcome
from titan_sdk import TitanClient

pytestmark = pytest.mark.airflow

BODY = 'TitanJobOperator(task_id="t", script="print(1)")'
LINK = "_link_TitanJobLogLink"


def test_a_task_links_to_its_jobs_log_on_the_dashboard(
    run_dag: Callable[..., Outcome], client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"titan://{client.config.address}/?dashboard_url=http%3A%2F%2Ftitan%3A5000"
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", uri)
    done = run_dag(BODY)
    assert done.xcom("t", LINK) == f"http://titan:5000/api/logs_raw/DAG-{done.xcom('t', 'titan_job_id')}"


def test_without_a_dashboard_there_is_no_link(run_dag: Callable[..., Outcome]) -> None:
    assert run_dag(BODY).xcom("t", LINK) in (None, "")


def test_a_task_with_several_jobs_links_to_its_titan_dag(
    run_dag: Callable[..., Outcome], client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"titan://{client.config.address}/?dashboard_url=http%3A%2F%2Ftitan%3A5000"
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", uri)
    done = run_dag("""
        from titan_provider.operators.dag import TitanDagOperator
        TitanDagOperator(task_id="t", jobs=[{"job_id": "a", "script": "print(1)"}])
        TitanDagOperator(task_id="named", dag_name="my dag/{{ task.task_id }}", jobs=[{"job_id": "a", "script": "1"}])
    """)
    assert done.xcom("t", "_link_TitanDagLink") == f"http://titan:5000/dags/DAG-{done.run.dag_id}.t"
    assert done.xcom("named", "_link_TitanDagLink") == "http://titan:5000/dags/DAG-my%20dag%2Fnamed"
