from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.airflow_run import Outcome
from tests.support.airflow_version import AIRFLOW_2
from titan_provider.links.titan import TitanDagLink, TitanJobLogLink, links
from titan_provider.operators.titan import TitanJobOperator
from titan_sdk import TitanClient

pytestmark = pytest.mark.airflow

BODY = 'TitanJobOperator(task_id="t", script="print(1)")'


def link(done: Outcome, task_id: str, maker: type[TitanJobLogLink | TitanDagLink]) -> str | None:
    """Airflow 3 makes it when the task ends and stores it; Airflow 2 makes it when somebody looks."""
    if not AIRFLOW_2:
        found: str | None = done.xcom(task_id, f"_link_{maker.__name__}")
        return found
    (ti,) = [ti for ti in done.run.get_task_instances() if ti.task_id == task_id]
    return maker().get_link(TitanJobOperator(task_id=task_id, script="1"), ti_key=ti.key)


def test_a_task_links_to_its_jobs_log_on_the_dashboard(
    run_dag: Callable[..., Outcome], client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"titan://{client.config.address}/?dashboard_url=http%3A%2F%2Ftitan%3A5000"
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", uri)
    done = run_dag(BODY)
    assert (
        link(done, "t", TitanJobLogLink)
        == f"http://titan:5000/api/logs_raw/DAG-{done.xcom('t', 'titan_job_id')}"
    )


def test_without_a_dashboard_there_is_no_link(run_dag: Callable[..., Outcome]) -> None:
    assert link(run_dag(BODY), "t", TitanJobLogLink) in (None, "")


def test_where_there_is_no_dashboard_at_all_links_can_be_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [link.name for link in links(TitanJobLogLink())] == ["Titan job log"]
    monkeypatch.setenv("AIRFLOW__TITAN_PROVIDER__DASHBOARD_LINKS", "False")
    assert links(TitanJobLogLink()) == ()


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
    assert link(done, "t", TitanDagLink) == f"http://titan:5000/dags/DAG-{done.run.dag_id}.t"
    assert link(done, "named", TitanDagLink) == "http://titan:5000/dags/DAG-my%20dag%2Fnamed"
