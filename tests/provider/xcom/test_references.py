"""What `titan xcom gc --airflow` learns from a real Airflow database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.airflow_run import unique, write_dag
from tests.support.airflow_version import dag_file_option
from titan_provider.xcom.titan_store import TitanStoreXComBackend as Backend
from titan_sdk import TitanClient

# Slow: A whole DAG runs in a real Airflow with the backend.
pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_connection"), pytest.mark.slow]


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | {"PYTHONPATH": os.getcwd()} | environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_reference_in_the_database_is_found_and_nothing_else(
    airflow_home: Path, client: TitanClient
) -> None:
    dag_id = unique("refs")
    path = write_dag(
        airflow_home,
        dag_id,
        """
        @task
        def short(): return 1
        @task
        def long(): return "x" * 500
        short() >> long()
        """,
    )
    backend = f"{Backend.__module__}.{Backend.__name__}"
    options = {"AIRFLOW__CORE__XCOM_BACKEND": backend, "AIRFLOW__TITAN_PROVIDER__XCOM_THRESHOLD": "100"}
    run("airflow", "dags", "test", dag_id, dag_file_option(), str(path), **options)
    found = json.loads(run("titan_provider.xcom.references").splitlines()[-1])
    own = [reference for reference in found if reference["key"].startswith(f"titan:xcom:{dag_id}/")]
    assert [reference["bytes"] for reference in own] == [502]
    address = {"TITAN_HOST": client.config.host, "TITAN_PORT": str(client.config.port)}
    listed = json.loads(run("titan_sdk", "xcom", "gc", "--airflow", "--json", **address))
    assert own[0]["key"] not in [value["key"] for value in listed["values"]]
    assert json.loads(client.store_get(own[0]["key"]) or "") == "x" * 500
