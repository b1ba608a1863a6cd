"""Many tasks for the chaos test. Each job adds one line to a file of its own every time it is started."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG

from titan_provider.operators.titan import TitanJobOperator

LAB = os.environ["TITAN_LAB"]
TASKS = int(os.environ["TITAN_LAB_TASKS"])

SCRIPT = r"""
import os, time, titan_job
base, n, seconds = titan_job.params
with open("%s.%d.count" % (base, n), "a") as f:
    f.write(os.environ["TITAN_JOB_ID"] + "\n")
for tick in range(int(seconds * 5)):
    print("<%d>" % tick, flush=True)
    time.sleep(0.2)
titan_job.result(n * n)
"""

for mode in ("sync", "deferred"):
    with DAG(f"crowd_{mode}", schedule=None, is_paused_upon_creation=False) as dag:
        TitanJobOperator.partial(
            task_id="t",
            script=SCRIPT,
            deferrable=mode == "deferred",
            poll_interval=0.5,
            retries=30,
            retry_delay=timedelta(seconds=0),
        ).expand(job_params=[[LAB + "/{{ run_id }}", n, 2 + n % 5] for n in range(TASKS)])
    globals()[dag.dag_id] = dag
