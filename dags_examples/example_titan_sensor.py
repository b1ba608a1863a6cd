"""Wait for work that was not submitted by an operator: here a Titan DAG that a task sends with the SDK.

The sensor knows the DAG by its name (and run), whoever submitted it through the SDK; other jobs it follows by their
ids. Needs: connection `titan_default`; a worker tagged GPU.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from airflow.providers.common.compat.sdk import DAG, task

from titan_provider.hooks.titan import TitanHook
from titan_provider.sensors.titan import TitanDagSensor
from titan_sdk import TitanJob

SCRIPTS = Path(__file__).parent / "sdk"

with DAG("example_titan_sensor", schedule=None, tags=["example", "titan"]) as dag:

    @task
    def submit() -> str:
        """Send extract -> train as one Titan DAG; returns the name of this run."""
        unique = uuid4().hex[:8]
        extract = TitanJob(f"extract-{unique}", str(SCRIPTS / "etl/extract.py"))
        train = TitanJob(
            f"train-{unique}", str(SCRIPTS / "ml/train.py"), parents=[extract.job_id], requirement="GPU"
        )
        with TitanHook("titan_default").get_conn() as client:
            return client.submit_dag("nightly_pipeline", [extract, train]).run_id

    TitanDagSensor(
        task_id="wait",
        dag_name="nightly_pipeline",
        run=submit(),
        poke_interval=0.5,
        timeout=timedelta(minutes=5).total_seconds(),
        deferrable=True,
    )
