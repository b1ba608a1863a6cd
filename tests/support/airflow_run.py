"""Run tasks through Airflow's own machinery inside the test process: `dag.test()` on a DAG written for the test."""

from __future__ import annotations

import importlib.util
import os
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_HEAD = """
from __future__ import annotations
from datetime import timedelta
from airflow.sdk import DAG, task
from titan_provider.operators.titan import TitanJobOperator
from titan_provider.sensors.titan import TitanDagSensor
with DAG("{dag_id}", schedule=None) as dag:
"""


@dataclass
class Outcome:
    """How a DAG run ended."""

    state: str
    tasks: dict[str, str]
    run: Any
    xcoms: dict[tuple[str, str], Any] = field(default_factory=dict)

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        """What Airflow's database holds for a task: a backend's reference, not its value."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            query = XComModel.get_many(
                run_id=self.run.run_id, dag_ids=self.run.dag_id, task_ids=task_id, key=key
            )
            row = session.scalars(query).first()
            return None if row is None else XComModel.deserialize_value(row)


def write_dag(home: Path, dag_id: str, body: str) -> Path:
    """A DAG file in Airflow's folder, whose tasks are the given lines."""
    path = home / "dags" / f"{dag_id}.py"
    path.write_text(_HEAD.format(dag_id=dag_id) + textwrap.indent(textwrap.dedent(body), "    "))
    return path


def run_dag(home: Path, dag_id: str, body: str, **test_arguments: Any) -> Outcome:
    """Write the DAG and run it once."""
    path = write_dag(home, dag_id, body)
    spec = importlib.util.spec_from_file_location(dag_id, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.dag.test(**test_arguments)
    tasks = {
        ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": str(ti.state)
        for ti in run.get_task_instances()
    }
    return Outcome(str(run.state), tasks, run)


def unique(name: str) -> str:
    """A DAG id nobody has used in this database."""
    return f"{name}_{os.urandom(3).hex()}"
