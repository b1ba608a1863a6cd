"""One Airflow for all situations, one for the chaos; each with a cluster of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.lab import Lab, master
from titan_sdk import TitanClient


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-seed", type=int, help="repeat the kills of an earlier run")


def pytest_report_header(config: pytest.Config) -> str:
    return f"--chaos-seed {_seed(config)}"


def _seed(config: pytest.Config) -> int:
    if config.getoption("--chaos-seed") is None:
        config.option.chaos_seed = secrets.randbelow(1_000_000)
    return int(config.getoption("--chaos-seed"))


@pytest.fixture(scope="session")
def chaos_seed(pytestconfig: pytest.Config) -> int:
    return _seed(pytestconfig)


@contextmanager
def running_lab(config: pytest.Config, slots: int, **settings: str) -> Iterator[Lab]:
    # Short: Airflow's components talk over Unix sockets, whose paths are limited to about 100 characters.
    home = Path(tempfile.mkdtemp(prefix="titan-lab-"))
    with master(config, home / "titan", {"GENERAL": 1}, slots) as cluster:
        environ = {
            "AIRFLOW_CONN_TITAN_DEFAULT": f"titan://{cluster.address}",
            # A dead scheduler, and a task whose process says nothing more, are noticed in seconds, not in minutes.
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "8",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "4",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "4",
            **settings,
        }
        with TitanClient(cluster.host, cluster.port) as client, Lab(home, client, environ) as lab:
            yield lab
    if "TITAN_LAB_KEEP" not in os.environ:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="package")
def lab(pytestconfig: pytest.Config) -> Iterator[Lab]:
    with running_lab(pytestconfig, slots=12) as running:
        yield running
