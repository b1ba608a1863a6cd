"""What a task of Airflow costs when it runs nothing: ours beside a BashOperator's, each a DAG of one task under `DAG.test()`.

Airflow is a process of its own, ``python -m benchmarks.tasks FOLDER TURNS``, with a database in that folder. The kinds take
turns, so what else the machine does meets all of them.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from benchmarks import sshd
from benchmarks.frame import Figure
from benchmarks.masters import bundled
from benchmarks.peers import installed

TURNS = 7
LASTING = 3.0
"""Seconds of a job that is long enough to be deferred."""
_SLEEP = """
import sys, time
time.sleep(float(sys.argv[1]))
with open(sys.argv[2], "w") as file:
    file.write(repr(time.time()))
"""


def run(scale: float) -> Iterator[Figure]:
    if not installed("airflow"):
        return
    turns = max(int(TURNS * scale), 1)
    with (
        tempfile.TemporaryDirectory(prefix="titan-bench-") as name,
        bundled("--workers", "GENERAL=2") as master,
        tempfile.TemporaryDirectory(prefix="titan-bench-") as keys,
        sshd.serve(Path(keys)) as ssh,
    ):
        host, port = master.client.config.host, master.client.config.port
        environ = os.environ | {
            "AIRFLOW_HOME": name,
            "AIRFLOW_CONN_TITAN_DEFAULT": f"titan://{host}:{port}",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            **ssh,
        }
        with Path(name, "log").open("wb") as log:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.tasks", name, str(turns)],
                env=environ,
                cwd=Path(__file__).parent.parent,
                stdout=log,
                stderr=log,
            )
        if done.returncode:
            raise RuntimeError(Path(name, "log").read_text(encoding="utf-8", errors="replace")[-3000:])
        found: dict[str, list[float]] = json.loads(Path(name, "found.json").read_text(encoding="utf-8"))
    yield from _figures(found)


def _figures(found: dict[str, list[float]]) -> Iterator[Figure]:
    median = {kind: statistics.median(samples) for kind, samples in found.items()}
    bash = median["bash"]
    for kind, what, ceiling in (
        ("sync", "a task that does nothing", "over <= 0.3"),
        ("deferrable", "the same, deferrable", "over <= 0.3"),
        ("function", "the same as @task.titan", ""),
        ("virtualenv", "Airflow's @task.virtualenv", ""),
        ("ssh", "an SSHOperator, to an sshd of this machine", ""),
    ):
        if kind not in median:
            continue
        took = median[kind]
        yield Figure(what, took, "s", "a BashOperator", bash, took / bash, ceiling)
    yield Figure("a job's end until its task goes on", median["late, sync"], "s", ceiling="value <= 0.3")
    yield Figure("the same, deferred", median["late, deferred"], "s", ceiling="value <= 0.3")


# ---------------------------------------------------------------------- Airflow

_DAGS = """
import os, time
from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.standard.operators.bash import BashOperator
from titan_provider.operators.titan import TitanJobOperator

resumed = []


class Noting(TitanJobOperator):
    def _result(self, *args, **kwargs):
        resumed.append(time.time())
        return super()._result(*args, **kwargs)


def nothing():
    pass


TASKS = {
    "bash": lambda: BashOperator(task_id="t", bash_command="true"),
    "sync": lambda: TitanJobOperator(task_id="t", script="pass", deferrable=False),
    "deferrable": lambda: TitanJobOperator(task_id="t", script="pass", deferrable=True),
    "function": lambda: task.titan(task_id="t")(nothing)(),
    "virtualenv": lambda: task.virtualenv(task_id="t")(nothing)(),
    "late, sync": lambda: Noting(task_id="t", filename=LASTING, args=ARGS, deferrable=False),
    "late, deferred": lambda: Noting(task_id="t", filename=LASTING, args=ARGS, deferrable=True),
}
if os.environ.get("AIRFLOW_CONN_BENCH_SSH"):
    from airflow.providers.ssh.operators.ssh import SSHOperator

    TASKS["ssh"] = lambda: SSHOperator(task_id="t", ssh_conn_id="bench_ssh", command="true")
DAGS = {}
for kind, make in TASKS.items():
    with DAG("bench_" + kind.replace(", ", "_"), schedule=None) as dag:
        make()
    DAGS[kind] = globals()[dag.dag_id] = dag
"""


def _airflow(folder: Path, turns: int) -> None:
    script, ended, dags = folder / "lasting.py", folder / "ended", folder / "dags" / "bench_dags.py"
    script.write_text(_SLEEP, encoding="utf-8")
    dags.parent.mkdir()
    given = f"LASTING, ARGS = {str(script)!r}, {[str(LASTING), str(ended)]!r}\n"
    dags.write_text(given + _DAGS, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("airflow.utils.db").initdb()
    sys.path.insert(0, str(dags.parent))
    module = importlib.import_module(dags.stem)
    found: dict[str, list[float]] = {kind: [] for kind in module.DAGS}
    for turn in range(-1, turns):  # the first one imports, and does not count
        for kind, dag in module.DAGS.items():
            if kind == "virtualenv" and turn > 1:
                continue  # seconds each
            started = time.perf_counter()
            state = str(dag.test().state)
            took = time.perf_counter() - started
            if state != "success":
                raise RuntimeError(f"{kind} ended as {state}")
            if turn >= 0:
                late = kind.startswith("late")
                found[kind].append(module.resumed[-1] - float(ended.read_text()) if late else took)
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    _airflow(Path(sys.argv[1]), int(sys.argv[2]))
