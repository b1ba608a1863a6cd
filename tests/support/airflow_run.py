"""Run tasks through Airflow's own machinery inside the test process: `dag.test()` on a DAG written for the test."""

from __future__ import annotations

import importlib.util
import os
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.airflow_version import AIRFLOW_2

ERRORS: list[BaseException] = []
"""What made tasks fail, in order; filled by the failure callback of every task."""

_HEAD = """
from __future__ import annotations
from datetime import timedelta
from airflow.providers.common.compat.sdk import DAG, task
from titan_provider.operators.titan import TitanJobOperator
from titan_provider.sensors.titan import TitanDagSensor
from tests.support.airflow_run import ERRORS
def keep_error(context): ERRORS.append(context["exception"])
with DAG("{dag_id}", schedule=None, default_args={{"on_failure_callback": keep_error, "poll_interval": 0.1}}) as dag:
"""


@dataclass
class Outcome:
    """How a DAG run ended."""

    state: str
    tasks: dict[str, str]
    run: Any
    errors: list[BaseException]

    def xcom(self, task_id: str, key: str = "return_value", map_index: int | None = None) -> Any:
        """What Airflow's database holds for a task: a backend's reference, not its value."""
        from airflow.utils.session import create_session

        model = xcom_model()

        where = {"dag_id": self.run.dag_id, "run_id": self.run.run_id, "task_id": task_id, "key": key}
        with create_session() as session:
            rows = session.query(model).filter_by(**where)
            row = (rows if map_index is None else rows.filter_by(map_index=map_index)).one_or_none()
            if row is None or model.__name__ != "XComModel":
                return None if row is None else row.value  # Airflow 2 reads it while loading the row
            return model.deserialize_value(row)


def write_dag(home: Path, dag_id: str, body: str) -> Path:
    """A DAG file in Airflow's folder, whose tasks are the given lines."""
    path = home / "dags" / f"{dag_id}.py"
    path.write_text(_HEAD.format(dag_id=dag_id) + textwrap.indent(textwrap.dedent(body), "    "))
    return path


def run_dag(home: Path, dag_id: str, body: str, **test_arguments: Any) -> Outcome:
    """Write the DAG and run it once."""
    import_what_warns()
    path = write_dag(home, dag_id, body)
    spec = importlib.util.spec_from_file_location(dag_id, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = _test(module.dag, test_arguments)
    tasks = {
        ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": str(ti.state)
        for ti in run.get_task_instances()
    }
    return Outcome(str(run.state), tasks, run, list(ERRORS))


def _test(dag: Any, arguments: dict[str, Any]) -> Any:
    try:
        return dag.test(**arguments)
    except BaseException as exc:
        # Airflow 2's `dag.test` does not expect an execution_timeout and breaks off, the task's end already written.
        if not AIRFLOW_2 or type(exc).__name__ != "AirflowTaskTimeout":
            raise
    dag_run = importlib.import_module("airflow.models.dagrun").DagRun
    (run,) = dag_run.find(dag_id=dag.dag_id)
    return run


def xcom_model() -> Any:
    """The table of XComs."""
    module = importlib.import_module("airflow.models.xcom")
    return getattr(module, "XComModel", None) or module.BaseXCom  # Airflow 2: one class for table and backend


def import_what_warns() -> None:
    """Airflow's in-process API server imports a test client that warns about its own next version."""
    if importlib.util.find_spec("airflow.api_fastapi") is None:
        return  # Airflow 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("airflow.api_fastapi.execution_api.app")


def unique(name: str) -> str:
    """A DAG id nobody has used in this database."""
    return f"{name}_{os.urandom(3).hex()}"
