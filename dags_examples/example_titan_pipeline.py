"""A small machine-learning pipeline on a Titan cluster: prepare, train, evaluate.

The jobs hand their data to each other as artifacts on the Titan master; Airflow sees results only, as XComs:

    prepare   on any worker             -> the data set's artifact name
    train     on a worker tagged GPU    -> the model's artifact name; on the CPU where there is no GPU
    evaluate  on the node that trained  -> the metrics
    report    in Airflow                   prints them, and fails if the model is no good

Needs: connection `titan_default`; scikit-learn and airflow-provider-titan on the workers. `make demo` runs it with
the XCom backend `titan_provider.xcom.titan_store.TitanStoreXComBackend`, so that the XComs are in TitanStore.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from titan_provider.operators.titan import TitanJobOperator

# Fields of the jobs' results, filled in when the task that uses them starts.
DATASET = "{{ ti.xcom_pull('prepare')['dataset'] }}"
MODEL = "{{ ti.xcom_pull('train')['model'] }}"

with DAG(
    "example_titan_pipeline",
    schedule=None,
    doc_md=__doc__,
    tags=["example", "titan"],
    default_args={"poll_interval": 0.5, "timeout": timedelta(minutes=5)},
) as dag:
    prepare = TitanJobOperator(
        task_id="prepare",
        filename="jobs/prepare_digits.py",
        job_params={"seed": 7, "test_share": 0.25},
    )

    train = TitanJobOperator(
        task_id="train",
        filename="jobs/train_digits.py",
        requirement="GPU",
        priority=10,
        job_params={"dataset": DATASET, "epochs": 120, "hidden": 128, "seed": 7},
    )

    evaluate = TitanJobOperator(
        task_id="evaluate",
        filename="jobs/evaluate_digits.py",
        requirement="GPU",
        # The training job as parent, and affinity to it: same node, so the model need not travel.
        parents=[train.output["titan_job_id"]],
        affinity=True,
        job_params={"dataset": DATASET, "model": MODEL},
    )

    @task
    def report(metrics: dict[str, Any], training: dict[str, Any]) -> None:
        """Print the metrics; a model that guesses is a failed run."""
        print(f"trained on the {training['device']}, last loss {training['loss']}")
        print(f"accuracy on images it has never seen: {metrics['accuracy']:.2%}")
        worst = min(metrics["per_digit"], key=metrics["per_digit"].get)
        print(f"hardest digit: {worst} ({metrics['per_digit'][worst]:.2%} right)")
        if metrics["accuracy"] < 0.9:
            raise ValueError(
                f"accuracy {metrics['accuracy']:.2%} is below 90%: the model has learned nothing"
            )

    prepare >> train >> evaluate >> report(evaluate.output, train.output)
