"""200 mapped tasks that do nothing, in a real Airflow: scheduler, LocalExecutor, triggerer. Ours beside BashOperators.

Each kind is one run of one DAG. Its time is that between the run's start and its end; its processor time is that of all
processes of Airflow, of the master and of the jobs meanwhile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.frame import Figure
from benchmarks.masters import bundled, slots
from benchmarks.peers import installed

if TYPE_CHECKING:
    from tests.e2e.airflow_server import AirflowServer

TASKS = 200
SECONDS = 3600.0
_KINDS = {"sync": "mapped tasks that do nothing", "deferrable": "the same, deferrable"}
_DAGS = """
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from titan_provider.operators.titan import TitanJobOperator

COUNT = {count}
for kind in ("bash", "sync", "deferrable"):
    with DAG(kind, schedule=None) as dag:
        if kind == "bash":
            BashOperator.partial(task_id="t").expand(bash_command=["true"] * COUNT)
        else:
            make = TitanJobOperator.partial(task_id="t", script="pass", deferrable=kind == "deferrable")
            make.expand(job_params=list(range(COUNT)))
    globals()[kind] = dag
with DAG("first", schedule=None) as first:
    BashOperator(task_id="b", bash_command="true") >> TitanJobOperator(task_id="t", script="pass")
"""


@dataclass(frozen=True)
class Cost:
    """Of one run, in seconds."""

    wall: float
    processor: float


def run(scale: float) -> Iterator[Figure]:
    if not installed("airflow.sdk"):
        print("  left out: Airflow 3 is not installed")
        return
    count = max(int(TASKS * scale), 1)
    costs = _measure(count)
    bash = costs["bash"]
    for kind, what in _KINDS.items():
        cost, against = costs[kind], f"{count} BashOperators"
        yield Figure(f"{count} {what}", cost.wall, "s", against, bash.wall, cost.wall / bash.wall)
        yield Figure(
            "and their processor time",
            cost.processor,
            "s",
            against,
            bash.processor,
            cost.processor / bash.processor,
        )


def _measure(count: int) -> dict[str, Cost]:
    from tests.e2e.airflow_server import AirflowServer

    with (
        tempfile.TemporaryDirectory(prefix="titan-bench-", ignore_cleanup_errors=True) as name,
        bundled("--workers", f"GENERAL={slots()}") as master,
    ):
        home, config = Path(name), master.client.config
        dags = home / "dags"
        dags.mkdir()
        (dags / "bench.py").write_text(_DAGS.format(count=count), encoding="utf-8")
        environ = {
            "AIRFLOW_CONN_TITAN_DEFAULT": f"titan://{config.host}:{config.port}",
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__API__WORKERS": "1",
        }
        with AirflowServer(home, dags, environ) as airflow:
            airflow.run_dag("first", SECONDS)
            return {kind: _cost(airflow, kind, [*airflow.pids, master.pid]) for kind in ("bash", *_KINDS)}


def _cost(airflow: AirflowServer, kind: str, roots: list[int]) -> Cost:
    before = _processor_time(roots)
    run_id = airflow.run_dag(kind, SECONDS)
    used = _processor_time(roots) - before
    found = airflow.api("GET", f"dags/{kind}/dagRuns/{run_id}")
    began, ended = (datetime.fromisoformat(found[name]) for name in ("start_date", "end_date"))
    return Cost((ended - began).total_seconds(), used)


def _processor_time(roots: list[int]) -> float:
    """Of these processes and all below them, those that have ended included."""
    import psutil

    total = 0.0
    for root in map(psutil.Process, roots):
        for process in [root, *root.children(recursive=True)]:
            try:
                total += sum(process.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue  # it counts with its parent's
    return total
