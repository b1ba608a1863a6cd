"""Several jobs as one Titan DAG, in one Airflow task: Titan starts each job the moment its parents have completed.

`evaluate` prefers the node on which `train` ran, and reads the model from that node's disk. The task's XCom has the
result of every job by its name. If `train` fails, a retry or a clear of the task goes on with `train`: `prepare` is
not run again. Needs: connection `titan_default`; two workers, one of them tagged GPU.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from titan_provider.operators.dag import TitanDagOperator

# Jobs hand small things to each other through TitanStore, where any job finds them under a name of the run's own.
PREPARE = """
import json, random, titan_job
from titan_sdk import TitanClient

random.seed(titan_job.params["seed"])
points = [(x, 3 * x + 1 + random.gauss(0, 0.1)) for x in range(50)]
with TitanClient() as client:
    client.store_put(titan_job.params["key"], json.dumps(points))
print("prepared", len(points), "points")
titan_job.result(len(points))
"""
TRAIN = """
import json, os, titan_job
from titan_sdk import TitanClient

with TitanClient() as client:
    points = json.loads(client.store_get(titan_job.params["key"]))
slope = intercept = 0.0
for epoch in range(2000):
    errors = [(slope * x + intercept - y, x) for x, y in points]
    slope -= 0.001 * sum(e * x for e, x in errors) / len(points)
    intercept -= 0.1 * sum(e for e, _ in errors) / len(points)
path = os.path.abspath(titan_job.params["key"].replace(":", "-") + ".json")
with open(path, "w") as file:
    json.dump([slope, intercept], file)
print(f"y = {slope:.2f} x + {intercept:.2f}")
titan_job.result({"slope": round(slope, 2), "path": path})
"""
EVALUATE = """
import json, os, titan_job

path = os.path.abspath(titan_job.params["key"].replace(":", "-") + ".json")
with open(path) as file:  # written by the training job, on this node
    slope, intercept = json.load(file)
os.unlink(path)
titan_job.result({"error": abs(slope - 3)})
"""
SHARED = {"key": "example:{{ dag.dag_id }}:{{ run_id }}", "seed": 7}

with DAG("example_titan_dag", schedule=None, tags=["example", "titan"]) as dag:
    fit = TitanDagOperator(
        task_id="fit",
        jobs=[
            {"job_id": "prepare", "script": PREPARE, "params": SHARED},
            {
                "job_id": "train",
                "script": TRAIN,
                "params": SHARED,
                "parents": ["prepare"],
                "requirement": "GPU",
                "priority": 10,
            },
            {
                "job_id": "evaluate",
                "script": EVALUATE,
                "params": SHARED,
                "parents": ["train"],
                "requirement": "GPU",
                "affinity": True,
            },
        ],
        poll_interval=0.5,
        deferrable=True,
        execution_timeout=timedelta(minutes=5),
    )

    @task
    def check(results: dict[str, Any]) -> None:
        """Fail the run if the line is not the one that the points were made from."""
        print(results)
        assert results["prepare"] == 50
        assert results["evaluate"]["error"] < 0.1

    check(fit.output)
