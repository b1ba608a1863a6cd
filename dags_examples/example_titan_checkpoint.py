"""A training that is killed once and goes on from its last checkpoint, and a model file that the next task reads.

Needs: connection `titan_default`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from titan_provider.operators.titan import TitanJobOperator

TRAIN = """
import os, signal
import titan_job

path = titan_job.restore()
start = path.step if path else 0
weights = float(open(path).read()) if path else 0.0
print("begins after step", start)
for step in range(start + 1, 1001):
    weights += 1 / step
    if step % 100 == 0:
        with open("weights.txt", "w") as file:
            file.write(repr(weights))
        titan_job.checkpoint("weights.txt", step=step)
    if step == 850 and start == 0:
        os.kill(os.getpid(), signal.SIGKILL)  # as if the machine had gone down
titan_job.result({"began_after": start})
"""

with DAG("example_titan_checkpoint", schedule=None, tags=["example", "titan"]) as dag:
    train = TitanJobOperator(
        task_id="train",
        script=TRAIN,
        outputs={"model": "weights.txt"},
        retries=1,
        retry_delay=timedelta(seconds=0),
        poll_interval=0.5,
    )
    evaluate = TitanJobOperator(
        task_id="evaluate",
        script="print('the weights are', open('model.txt').read())",
        inputs={"model.txt": train.output["model"]},
        poll_interval=0.5,
    )
