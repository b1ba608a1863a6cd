"""Large values between jobs and tasks without a detour through Airflow's workers.

With the XCom backend `titan_provider.xcom.titan_store.TitanStoreXComBackend`, a value is in TitanStore and Airflow's
database has a reference. A job may then read what a task pushed, and write what a task pulls. Needs: that backend;
connection `titan_default`; airflow-provider-titan (without any extra) on the workers.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from titan_provider.operators.titan import TitanJobOperator

DOUBLE = """
import titan_job
from titan_sdk import TitanClient
from titan_sdk.xcom import read_xcom, write_xcom

with TitanClient() as client:
    rows = read_xcom(client, titan_job.params["dag"], titan_job.params["run"], "make")
    print("read", len(rows), "rows")
    titan_job.result(write_xcom(client, [row * 2 for row in rows]))
"""

with DAG("example_titan_xcom", schedule=None, tags=["example", "titan"]) as dag:

    @task
    def make() -> list[int]:
        """A value that is not small."""
        return list(range(100_000))

    double = TitanJobOperator(
        task_id="double",
        script=DOUBLE,
        # Where the value is, not the value.
        job_params={"dag": "{{ dag.dag_id }}", "run": "{{ run_id }}"},
    )

    @task
    def check(rows: Any) -> None:
        """Pulls what the job wrote."""
        assert len(rows) == 100_000
        assert rows[-1] == 199_998

    make() >> double >> check(double.output)
