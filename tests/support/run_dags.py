"""`python -m tests.support.run_dags FOLDER DAG_ID...`: run DAGs in one Airflow process, say how each ended.

The last line of the output is JSON: {dag_id: {"state": ..., "tasks": {task_id: state}, "xcoms": {task_id: value}}}.
Run as a process of its own: Airflow's settings and XCom backend are fixed once it is imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: str, dag_ids: list[str]) -> None:
    bag = _bag(folder)
    if bag.import_errors:
        sys.exit("\n".join(f"{file}: {error}" for file, error in bag.import_errors.items()))
    print(json.dumps({dag_id: _run(bag.dags[dag_id]) for dag_id in dag_ids}))


def _bag(folder: str) -> Any:
    try:
        from airflow.dag_processing.dagbag import BundleDagBag
    except ModuleNotFoundError:  # Airflow 2
        from airflow.models.dagbag import DagBag

        return DagBag(folder, include_examples=False)
    return BundleDagBag(folder, bundle_path=Path(folder), bundle_name="dags-folder")


def _run(dag: Any) -> dict[str, Any]:
    run = dag.test()
    tasks = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    return {"state": str(run.state), "run_id": run.run_id, "tasks": tasks}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
