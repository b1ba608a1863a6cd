"""One script on a Titan worker, its result as an XCom. Needs: connection `titan_default`."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from titan_provider.operators.titan import TitanJobOperator

with DAG("example_titan_job", schedule=None, tags=["example", "titan"]) as dag:
    hello = TitanJobOperator(
        task_id="hello",
        filename="jobs/hello.py",
        args=["--name", "{{ dag.dag_id }}"],
        env={"GREETING": "Hello"},
        job_params={"run": "{{ run_id }}"},
    )
