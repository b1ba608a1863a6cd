"""One Airflow for all situations, one for the chaos; each with a cluster of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.chaos.lab import Lab
from titan_sdk import TitanClient
from titan_sdk.cluster import LocalCluster

TASKS = 100


@contextmanager
def running_lab(slots: int, **settings: str) -> Iterator[Lab]:
    # Short: Airflow's components talk over Unix sockets, whose paths are limited to about 100 characters.
    home = Path(tempfile.mkdtemp(prefix="titan-lab-"))
    with LocalCluster({"GENERAL": 1}, slots=slots, data_dir=home / "titan") as cluster:
        environ = {
            "AIRFLOW_CONN_TITAN_DEFAULT": f"titan://{cluster.address}",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
            # A dead triggerer is noticed in seconds rather than in half a minute.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
            "TITAN_LAB_TASKS": str(TASKS),
            **settings,
        }
        with TitanClient(cluster.host, cluster.port) as client, Lab(home, client, environ) as lab:
            yield lab
    if "TITAN_LAB_KEEP" not in os.environ:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    with running_lab(slots=12) as running:
        yield running
