"""A running Airflow whose tasks and components can be killed, and what its jobs left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import requests

from tests.conftest import Master
from tests.e2e.airflow_server import AirflowServer, group_alive
from titan_sdk import JobStatus, TitanClient, xcom
from titan_sdk.cluster import LocalCluster

T = TypeVar("T")
DAGS = Path(__file__).with_name("dags")
TASKS = 100
"""Of the crowd in the chaos test."""
PATIENCE = 150.0
"""Seconds for what takes a few on a machine that does nothing else."""
QUICK = {
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__CORE__PARALLELISM": "8",
    # How late a task's supervisor may notice its end. A deferral that is over sooner can fail the task: Airflow takes
    # the end of the first part for that of the second.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    # A dead triggerer is noticed in seconds rather than in half a minute.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
    "TITAN_LAB_TASKS": str(TASKS),
}


class AirflowMisjudged(AssertionError):
    """Airflow failed a task that had not run yet: its scheduler took the late end of an earlier process for this
    one's. A race of Airflow's (docs/durability.md) that a task without retries cannot outlast; ``Run.wait_for`` avoids
    it as far as it can be seen from outside, and `make e2e` runs a test again that met it, and no other.
    """


@contextmanager
def master(config: pytest.Config, folder: Path, workers: dict[str, int], slots: int) -> Iterator[Master]:
    """The one of `--titan-address`, such as a real Titan, or else a bundled one with these workers."""
    if address := config.getoption("--titan-address"):
        host, _, port = address.rpartition(":")
        yield Master(host, int(port))
        return
    with LocalCluster(workers, slots=slots, data_dir=folder) as running:
        yield Master(running.host, running.port)


class Lab(AirflowServer):
    """Airflow as four processes, each of which can be killed and started again.

    :param dags: by default the DAGs beside this file
    """

    components = ("api-server", "scheduler", "dag-processor", "triggerer")

    def __init__(self, home: Path, client: TitanClient, environ: dict[str, str], dags: Path = DAGS) -> None:
        super().__init__(home, dags, QUICK | environ | {"TITAN_LAB": str(home / "lab")})
        self.client = client
        self.folder = home / "lab"
        self.folder.mkdir()

    def __enter__(self) -> Lab:
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stdout + done.stderr
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for path in self.folder.glob("*.count"):
            for job_id in path.read_text().split():
                self.client.cancel_job(job_id)  # a failed test leaves jobs that wait for their gate
        super().__exit__()

    # -- Airflow ------------------------------------------------------------------------------------------------

    def trigger(self, dag_id: str, run_id: str) -> Run:
        """A run of a DAG without a logical date."""
        self.until(lambda: self._knows(dag_id), f"{dag_id} is not parsed")
        self.api("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, "dag_run_id": run_id})
        return Run(self, dag_id, run_id)

    def until(self, true: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
        """What it gives once that is true; asked often, as Airflow tells nobody."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if found := true():
                    return found
            except requests.RequestException:
                pass  # the API server is busy
            time.sleep(0.2)
        raise AssertionError(f"{what}, not within {seconds:g} s; see {self.log}")

    # -- processes ----------------------------------------------------------------------------------------------

    def kill(self, component: str, number: int = signal.SIGKILL) -> None:
        """Every process of it; returns when they are gone."""
        process = self._processes[component]
        assert process.poll() is None, f"the {component} does not run"
        os.killpg(process.pid, number)
        self.until(
            lambda: process.poll() is not None and not group_alive(process.pid), f"{component} has ended"
        )


class Standalone(Lab):
    """The same under one `airflow standalone`, which starts its components itself, and none of them again."""

    components = ("standalone",)

    def kill(self, component: str, number: int = signal.SIGKILL) -> None:
        """As in four processes: whatever belongs to the component has ended afterwards."""
        if component in self._processes:
            super().kill(component, number)
            return
        under = psutil.Process(self._processes["standalone"].pid).children()
        (process,) = (child for child in under if component in " ".join(child.cmdline()))
        family = [process, *process.children(recursive=True)]
        for member in family if number == signal.SIGKILL else family[:1]:
            member.send_signal(number)
        self.until(lambda: all(map(has_ended, family)), f"{component} has ended")


class Run:
    """One DAG run of one task ``t``, or of its mapped instances."""

    def __init__(self, lab: Lab, dag_id: str, run_id: str) -> None:
        self.lab, self.dag_id, self.run_id = lab, dag_id, run_id
        self.path = f"dags/{dag_id}/dagRuns/{run_id}"

    @property
    def is_mapped(self) -> bool:
        return self.mode in ("mapped", "mappedsync", "crowd")

    @property
    def mode(self) -> str:
        return self.dag_id.partition("_")[0]

    def tasks(self) -> list[dict[str, Any]]:
        found = self.lab.api("GET", f"{self.path}/taskInstances", params={"limit": 200})
        return sorted(found["task_instances"], key=lambda task: int(task["map_index"]))

    def state(self, index: int = 0) -> str:
        return str(self.tasks()[index]["state"])

    def wait_for(self, state: str, index: int = 0, seconds: float = PATIENCE) -> None:
        def reached() -> bool:
            task = self.tasks()[index]
            if task["state"] == "failed" != state:
                self._check_judgement()
            # Nobody is too quick for Airflow: what follows comes after its process has ended.
            return task["state"] == state and (state == "running" or not has_process(str(task["id"])))

        self.lab.until(reached, f"{self.run_id} is {state}", seconds)

    def _check_judgement(self) -> None:
        """Of a task that has failed."""
        query = {"event": "state mismatch", "run_id": self.run_id}
        for entry in self.lab.api("GET", "eventLogs", params=query)["event_logs"]:
            if "state attribute is queued" in str(entry["extra"]):
                raise AirflowMisjudged(entry["extra"])

    def started(self, index: int | str = 0, times: int = 1) -> str:
        """Wait until the script has been started so often; the job's id."""

        def enough() -> bool:
            if len(self.starts(index)) >= times:
                return True
            if times > 1 and any(task["state"] == "failed" for task in self.tasks()):
                self._check_judgement()
            return False

        self.lab.until(enough, f"{self.run_id}: start {times}")
        return self.starts(index)[times - 1]

    def starts(self, index: int | str = 0) -> list[str]:
        path = self.lab.folder / f"{self.run_id}.{index}.count"
        return path.read_text().split() if path.exists() else []

    def open_gate(self, index: int | str = 0, name: str = "gate") -> None:
        """Let the script end; by the gate "fail" it fails, once."""
        (self.lab.folder / f"{self.run_id}.{index}.{name}").touch()

    def is_over(self, job_id: str) -> bool:
        return self.lab.client.get_job_status(job_id).is_terminal

    def wait_for_job(self, job_id: str, status: JobStatus, seconds: float = PATIENCE) -> None:
        report = self.lab.client.wait_for_job(job_id, timeout=seconds, raise_on_failure=False)
        assert report.state is status, report.describe()

    def wait_until_jobs_end(self) -> None:
        jobs = self.starts()
        self.lab.until(lambda: all(map(self.is_over, jobs)), "no job is left running")

    def pid(self, index: int = 0) -> int:
        return int(self.lab.until(lambda: self.tasks()[index]["pid"], "the task has a process"))

    def kill_task(self, number: int, index: int = 0) -> None:
        os.kill(self.pid(index), number)

    def mark(self, state: str, index: int = 0) -> None:
        where = f"/{index}" if self.is_mapped else ""
        self.lab.api("PATCH", f"{self.path}/taskInstances/t{where}", json={"new_state": state})

    def clear(self, index: int = 0) -> None:
        # A run whose tasks have all ended is about to end too. A clear that comes first is lost: the scheduler, which
        # has read the tasks already, then writes the run's end over it.
        self.lab.until(self._is_settled, f"{self.run_id} ends after its tasks")
        body = {"dry_run": False, "dag_run_id": self.run_id, "only_failed": False, "reset_dag_runs": True}
        body["task_ids"] = [["t", index]] if self.is_mapped else ["t"]
        self.lab.api("POST", f"dags/{self.dag_id}/clearTaskInstances", json=body)

    def _is_settled(self) -> bool:
        ended = ("success", "failed", "skipped", "upstream_failed")
        is_over = all(task["state"] in ended for task in self.tasks())
        return not is_over or self.lab.api("GET", self.path)["state"] in ("success", "failed")

    def result(self, index: int = 0) -> Any:
        where = {"map_index": index} if self.is_mapped else {}
        path = f"{self.path}/taskInstances/t/xcomEntries/return_value"
        value = self.lab.api("GET", path, params={"stringify": "false"} | where)["value"]
        reference = xcom.Reference.from_json(value)
        return value if reference is None else xcom.value_of(self.lab.client, reference)

    def log_lines(self, index: int = 0, attempt: int = 1) -> list[str]:
        """What the UI shows of one try."""
        where = {"map_index": index} if self.is_mapped else {}
        path = f"{self.path}/taskInstances/t/logs/{attempt}"
        lines = self.lab.api("GET", path, params={"full_content": "true"} | where)["content"]
        return [line if isinstance(line, str) else str(line.get("event")) for line in lines]

    def printed(self, index: int = 0, attempt: int = 1) -> list[int]:
        """Numbers of the job's lines in that log."""
        lines = (line.strip() for line in self.log_lines(index, attempt))
        return [int(line[1:-1]) for line in lines if line[:1] == "<" and line[1:-1].isdigit()]


def parent_of(pid: int) -> int:
    """Of a task's process: the worker that supervises it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def has_ended(process: psutil.Process) -> bool:
    """Whether nothing of it runs; its parent need not have noticed."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def has_process(task_id: str) -> bool:
    """Whether Airflow's executor is still busy with that try of a task; its processes say so in their titles."""
    return any(
        task_id in " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    )
