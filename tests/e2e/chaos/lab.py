"""A running Airflow whose tasks and triggerer can be killed, and what its jobs left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import requests

from tests.e2e.airflow_server import AirflowServer
from titan_sdk import JobStatus, TitanClient

T = TypeVar("T")


class Lab(AirflowServer):
    """`airflow standalone` with the DAGs beside this file."""

    def __init__(self, home: Path, client: TitanClient, environ: dict[str, str]) -> None:
        super().__init__(home, Path(__file__).with_name("dags"), environ | {"TITAN_LAB": str(home / "lab")})
        self.client = client
        self.folder = home / "lab"
        self.folder.mkdir()
        self._triggerers: list[subprocess.Popen[bytes]] = []

    def __exit__(self, *_: object) -> None:
        for path in self.folder.glob("*.count"):
            for job_id in path.read_text().split():
                self.client.cancel_job(job_id)  # a failed test leaves jobs that wait for their gate
        for process in self._triggerers:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        super().__exit__()

    # -- Airflow ------------------------------------------------------------------------------------------------

    def trigger(self, dag_id: str, run_id: str) -> Run:
        self.until(lambda: self._knows(dag_id), f"{dag_id} is not parsed")
        self.api("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, "dag_run_id": run_id})
        return Run(self, dag_id, run_id)

    def until(self, true: Callable[[], T], what: str, seconds: float = 60.0) -> T:
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

    def triggerer_pids(self) -> list[int]:
        roots = [self._process, *self._triggerers]
        pids = {pid for root in roots if root is not None for pid in descendants(root.pid)}
        return [pid for pid in pids if b"triggerer" in cmdline(pid)]

    def kill_triggerer(self, number: int = signal.SIGKILL) -> None:
        """Every process of every triggerer; returns when they are gone."""
        pids = self.triggerer_pids()
        assert pids, "there is no triggerer"
        for pid in pids:
            signal_if_there(pid, number)
        self.until(lambda: not self.triggerer_pids(), "the triggerer has ended")

    def start_triggerer(self) -> None:
        with (self.log.parent / "triggerer.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "triggerer"],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._triggerers.append(process)


class Run:
    """One DAG run of one task ``t``, or of its mapped instances."""

    def __init__(self, lab: Lab, dag_id: str, run_id: str) -> None:
        self.lab, self.dag_id, self.run_id = lab, dag_id, run_id
        self.path = f"dags/{dag_id}/dagRuns/{run_id}"

    @property
    def is_mapped(self) -> bool:
        return self.dag_id.startswith(("mapped", "crowd"))

    def tasks(self) -> list[dict[str, Any]]:
        found = self.lab.api("GET", f"{self.path}/taskInstances", params={"limit": 200})
        return sorted(found["task_instances"], key=lambda task: int(task["map_index"]))

    def state(self, index: int = 0) -> str:
        return str(self.tasks()[index]["state"])

    def wait_for(self, state: str, index: int = 0, seconds: float = 60.0) -> None:
        self.lab.until(lambda: self.state(index) == state, f"{self.run_id} is {state}", seconds)

    def started(self, index: int = 0, times: int = 1) -> str:
        """Wait until the script has been started so often; the job's id."""
        self.lab.until(lambda: len(self.starts(index)) >= times, f"{self.run_id}: start {times}")
        return self.starts(index)[times - 1]

    def starts(self, index: int = 0) -> list[str]:
        path = self.lab.folder / f"{self.run_id}.{index}.count"
        return path.read_text().split() if path.exists() else []

    def open_gate(self, index: int = 0) -> None:
        (self.lab.folder / f"{self.run_id}.{index}.gate").touch()

    def is_over(self, job_id: str) -> bool:
        return self.lab.client.get_job_status(job_id).is_terminal

    def wait_for_job(self, job_id: str, status: JobStatus, seconds: float = 60.0) -> None:
        report = self.lab.client.wait_for_job(job_id, timeout=seconds, raise_on_failure=False)
        assert report.state is status, report.describe()

    def pid(self, index: int = 0) -> int:
        return int(self.lab.until(lambda: self.tasks()[index]["pid"], "the task has a process"))

    def kill_task(self, number: int, index: int = 0) -> None:
        os.kill(self.pid(index), number)

    def mark(self, state: str, index: int = 0) -> None:
        where = f"/{index}" if self.is_mapped else ""
        self.lab.api("PATCH", f"{self.path}/taskInstances/t{where}", json={"new_state": state})

    def clear(self, index: int = 0) -> None:
        body = {"dry_run": False, "dag_run_id": self.run_id, "only_failed": False, "reset_dag_runs": True}
        body["task_ids"] = [["t", index]] if self.is_mapped else ["t"]
        self.lab.api("POST", f"dags/{self.dag_id}/clearTaskInstances", json=body)

    def result(self, index: int = 0) -> Any:
        where = {"map_index": index} if self.is_mapped else {}
        path = f"{self.path}/taskInstances/t/xcomEntries/return_value"
        return self.lab.api("GET", path, params={"stringify": "false"} | where)["value"]

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


def descendants(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listing.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        left += children.get(one, [])
    return found


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def signal_if_there(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
