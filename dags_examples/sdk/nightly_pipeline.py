"""Two jobs as one DAG: extract anywhere, then train on a worker tagged GPU."""

from __future__ import annotations

from uuid import uuid4

from titan_sdk import TitanClient, TitanJob


def main() -> None:
    run = uuid4().hex[:8]
    extract = TitanJob(job_id=f"extract_data-{run}", filename="etl/extract.py", priority=5)
    train = TitanJob(
        job_id=f"train_model-{run}", filename="ml/train.py", requirement="GPU", parents=[extract.job_id]
    )
    with TitanClient() as client:
        dag = client.submit_dag("nightly_pipeline", [extract, train])
        for report in dag.wait(timeout=60).jobs:
            print(f"{report.job_id} {report.state} on {report.worker}: {report.result}")


if __name__ == "__main__":
    main()
