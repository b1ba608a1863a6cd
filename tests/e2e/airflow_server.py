"""A real Airflow on loopback, as `airflow standalone` or as its four processes; its REST API, and its clean end."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import requests

from tests.examples.player import free_port

START_SECONDS = 300
STOP_SECONDS = 20


class AirflowServer:
    """API server, scheduler, DAG processor and triggerer with a home of their own; `with` starts and ends them."""

    components: ClassVar[tuple[str, ...]] = ("standalone",)

    def __init__(self, home: Path, dags: Path, environ: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.home = home
        self.log = home / "standalone.log"
        self._environ = os.environ | self._settings(home, dags) | environ
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._session = requests.Session()

    def _settings(self, home: Path, dags: Path) -> dict[str, str]:
        return {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }

    @property
    def pids(self) -> list[int]:
        """Of the commands that were started; what they have started is below them."""
        return [process.pid for process in self._processes.values()]

    def __enter__(self) -> AirflowServer:
        try:
            for name in self.components:
                self.start(name)
            self._wait_until_healthy()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        groups = self.pids
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_SECONDS
            while any(map(group_alive, groups)) and time.monotonic() < deadline:
                for pid in filter(group_alive, groups):
                    os.killpg(pid, number)
                for process in self._processes.values():
                    process.poll()
                time.sleep(0.5)
        self._session.close()
        assert not any(map(group_alive, groups)), "Airflow left processes behind"

    def start(self, name: str) -> None:
        """Start one of Airflow's commands; what it prints is appended to the log of that name."""
        self.log = self.home / f"{name}.log"
        with self.log.open("ab") as output:
            # A session of its own: SIGTERM to standalone alone would orphan its children.
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", name],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        states: dict[str, Any] = {}
        while time.monotonic() < deadline:
            for name, process in self._processes.items():
                log = self.home / f"{name}.log"
                assert process.poll() is None, log.read_text(encoding="utf-8")[-4000:]
            try:
                health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
                states = {name: part["status"] for name, part in health.items()}
            except (requests.RequestException, ValueError):
                states = {}
            if states and set(states.values()) == {"healthy"}:
                token = requests.get(f"{self.url}/auth/token", timeout=10).json()["access_token"]
                self._session.headers["Authorization"] = f"Bearer {token}"
                return
            time.sleep(0.5)
        raise AssertionError(f"not healthy after {START_SECONDS} s: {states}; see {self.home}")

    def api(self, method: str, path: str, **kwargs: Any) -> Any:
        """Answer of the public REST API, as JSON."""
        answer = self._session.request(method, f"{self.url}/api/v2/{path}", timeout=30, **kwargs)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def run_dag(self, dag_id: str, seconds: float) -> str:
        """Unpause, trigger, wait until it has ended; returns the run's id."""
        deadline = time.monotonic() + seconds
        while not self._knows(dag_id):
            assert time.monotonic() < deadline, f"{dag_id} was not parsed"
            time.sleep(0.5)
        self.api("PATCH", f"dags/{dag_id}", json={"is_paused": False})
        run_id: str = self.api("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None})["dag_run_id"]
        while (state := self.api("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"]) in {"queued", "running"}:
            assert time.monotonic() < deadline, (
                f"{dag_id} is still {state}: {self.task_states(dag_id, run_id)}"
            )
            time.sleep(0.5)
        assert state == "success", f"{self.task_states(dag_id, run_id)}; see {self.log}"
        return run_id

    def _knows(self, dag_id: str) -> bool:
        return self._session.get(f"{self.url}/api/v2/dags/{dag_id}", timeout=30).ok

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        found = self.api("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    def task_log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """What the UI shows as the log of the first try."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"
        lines = self.api("GET", path, params={"full_content": "true"})["content"]
        return "\n".join(line if isinstance(line, str) else str(line.get("event")) for line in lines)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.api("GET", path, params={"deserialize": "false", "stringify": "false"})["value"]


def group_alive(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True
