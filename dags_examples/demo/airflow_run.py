"""A real Airflow in a temporary home: its settings, its database, one run of a DAG."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from dags_examples.demo.processes import DemoFailed, path_with_this_python
from dags_examples.demo.progress import ProgressWatch
from dags_examples.demo.task_log import TaskLogFilter

DAGS = Path(__file__).resolve().parents[1]
XCOM_BACKEND = "titan_provider.xcom.titan_store.TitanStoreXComBackend"


def environment(folder: Path, address: str) -> dict[str, str]:
    """Airflow configured by environment alone: the connection, the XCom backend, the example DAGs."""
    foreign = ("AIRFLOW", "TITAN_HOST", "TITAN_PORT")
    base = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    home = folder / "airflow"
    return base | {
        "PYTHONUNBUFFERED": "1",
        "PATH": path_with_this_python(),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_TITAN_DEFAULT": f"titan://{address}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__XCOM_BACKEND": XCOM_BACKEND,
        # The pipeline's results are small, and are to be seen in TitanStore all the same.
        "AIRFLOW__TITAN_PROVIDER__XCOM_THRESHOLD": "0",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__JSON_LOGS": "True",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def migrate(environ: dict[str, str], folder: Path) -> None:
    (folder / "airflow").mkdir()
    with (folder / "airflow-db-migrate.log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
    if done.returncode != 0:
        raise DemoFailed(f"airflow db migrate ended with {done.returncode}; see {log.name}")


def run_dag(dag_id: str, environ: dict[str, str], folder: Path, address: str, console: Console) -> None:
    """`airflow dags test`, its own words in a file, the tasks' words on the terminal as they come."""
    path = folder / "airflow-dags-test.log"
    lines = TaskLogFilter()
    with (
        path.open("w", encoding="utf-8") as log,
        _dags_test(dag_id, environ) as process,
        ProgressWatch(address, console),
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if shown := lines.show(line):
                console.print(_styled(shown.text, shown.kind))
    if process.returncode != 0:
        raise DemoFailed(f"airflow dags test {dag_id} ended with {process.returncode}; see {path}")


def _dags_test(dag_id: str, environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "airflow", "dags", "test", dag_id],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        bufsize=1,
    )


def _styled(text: str, kind: str) -> Text:
    if kind == "task":
        return Text(f"  task {text}", style="bold cyan")
    return Text(f"    {text}", style="red" if kind == "error" else "")
