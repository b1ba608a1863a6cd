"""Proof that the metrics travelled as XComs through TitanStore: Airflow's database holds references only."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from dags_examples.demo.processes import DemoFailed
from dags_examples.demo.report import TASKS
from titan_sdk import TitanClient


def check(dag_id: str, home: Path, address: str, console: Console) -> None:
    """Follow the reference of every job's result and show where the value was."""
    rows = _stored(home / "airflow.db", dag_id)
    missing = [task for task in TASKS if task not in rows]
    if missing:
        raise DemoFailed(f"no XCom in Airflow's database for: {', '.join(missing)}")
    host, _, port = address.rpartition(":")
    console.print("XComs in TitanStore (Airflow's database holds the references)")
    with TitanClient(host, int(port)) as client:
        for task in TASKS:
            reference = rows[task]
            if not isinstance(reference, dict) or "titan_xcom" not in reference:
                raise DemoFailed(
                    f"the XCom of {task} is not in TitanStore but in Airflow's database: {reference}"
                )
            text = client.store_get(reference["key"])
            if text is None or len(text) != reference["bytes"]:
                raise DemoFailed(f"the XCom of {task} is not in TitanStore under {reference['key']}")
            console.print(f"  {task}: {len(text)} bytes under {reference['key']}", style="dim")


def _stored(database: Path, dag_id: str) -> dict[str, Any]:
    """What the `xcom` table itself holds, by task."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = connection.execute(
            "SELECT task_id, value FROM xcom WHERE dag_id = ? AND key = 'return_value'", (dag_id,)
        ).fetchall()
    return {task: json.loads(value) for task, value in found}
