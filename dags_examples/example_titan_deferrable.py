"""Wait without a worker slot: ten slow jobs deferred at once take one triggerer, not ten Airflow workers.

Their logs arrive in the task logs all the same. Needs: connection `titan_default`; a triggerer, which every Airflow
installation with deferrable operators has.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from titan_provider.operators.titan import TitanJobOperator

COUNT_DOWN = """
import time
import titan_job

for left in range(titan_job.params["seconds"], 0, -1):
    titan_job.progress(1 - left / titan_job.params["seconds"], f"{left} s left")
    print(f"{left} s left")
    time.sleep(1)
titan_job.result("lift-off")
"""

with DAG("example_titan_deferrable", schedule=None, tags=["example", "titan"]) as dag:
    count_down = TitanJobOperator(
        task_id="count_down",
        script=COUNT_DOWN,
        job_params={"seconds": 2},
        deferrable=True,
        poll_interval=0.5,
        # Kept by the trigger as well: when it is over, the remote job is cancelled.
        execution_timeout=timedelta(minutes=5),
    )
