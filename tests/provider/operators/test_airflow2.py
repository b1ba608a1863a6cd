"""Dispatched once on a real Airflow 2.11, task by task as its executors run them; Airflow 3's is in tests/e2e/chaos."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_run import unique, write_dag
from tests.support.airflow_version import AIRFLOW_2

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.usefixtures("airflow_connection"),
    pytest.mark.skipif(not AIRFLOW_2, reason="of Airflow 2"),
]

SCRIPT = """
import os, time, titan_job
with open(os.environ["COUNT"], "a") as file:
    file.write("x")
while not os.path.exists(os.environ["GATE"]):
    time.sleep(0.05)
titan_job.result(os.path.getsize(os.environ["COUNT"]))
"""


class Lab:
    """One task of one DAG run, whose script says how often it was started."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.count, self.gate = folder / "count", folder / "gate"
        self.dag_id = unique("two")
        env = {"COUNT": str(self.count), "GATE": str(self.gate)}
        body = f'TitanJobOperator(task_id="t", script={SCRIPT!r}, env={env!r}, retries=1)'
        self.path = write_dag(home, self.dag_id, body)
        self.dag = _load(self.path)
        self.run = _make_run(self.dag)
        self.processes: list[subprocess.Popen[bytes]] = []

    def begin(self) -> subprocess.Popen[bytes]:
        _count_try(self.task_instance())
        names = [self.dag_id, "t", self.run.run_id]
        command = [sys.executable, "-m", "airflow", "tasks", "run", "--local", "--ignore-all-dependencies"]
        process = subprocess.Popen(
            [*command, "-S", str(self.path), *names],
            env=os.environ | {"PYTHONPATH": os.getcwd()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def crash(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL of the task and of what watches it, and what the scheduler makes of that after a while."""
        import psutil

        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait(120)
        ti = self.task_instance()
        ti.task = self.dag.get_task("t")
        ti.handle_failure("detected as a zombie", test_mode=False)
        assert self.task_instance().state == "up_for_retry"

    def task_instance(self) -> Any:
        return self.run.get_task_instance("t")

    def started(self, times: int) -> None:
        _until(lambda: self.count.exists() and self.count.stat().st_size == times)

    def finish(self, process: subprocess.Popen[bytes]) -> Any:
        """Let the script end; what the task pushed."""
        self.gate.touch()
        process.wait(300)
        ti = self.task_instance()
        assert ti.state == "success"
        ti.task = self.dag.get_task("t")
        return ti.xcom_pull(task_ids="t")


@pytest.fixture
def lab(airflow_home: Path, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(airflow_home, tmp_path)
    yield made
    made.gate.touch()
    for process in made.processes:
        process.wait(300)


def test_a_crash_is_taken_up_and_a_clear_runs_anew(lab: Lab) -> None:
    process = lab.begin()
    lab.started(1)
    lab.crash(process)
    assert lab.finish(lab.begin()) == 1, "the second try waited for the first one's job"
    assert lab.task_instance().try_number == 2

    lab.dag.clear(task_ids=["t"])
    assert lab.finish(lab.begin()) == 2, "a clear of a succeeded task runs it again"


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag


def _make_run(dag: Any) -> Any:
    from airflow.utils import timezone

    dag.sync_to_db()
    now = timezone.utcnow()
    return dag.create_dagrun(
        run_id=unique("manual"),
        run_type="manual",
        state="running",
        execution_date=now,
        data_interval=(now, now),
    )


def _count_try(ti: Any) -> None:
    """The scheduler's part of starting a task."""
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(ti).try_number += 1


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.05)
