"""How many requests and transactions one default job takes on the bundled master."""

from __future__ import annotations

import re
import socket
import sqlite3
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster

JOBS = 5
REQUESTS, TRANSACTIONS = 8, 4
"""At most, for each of them."""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "job.py"
    path.write_text("import titan_job\nprint('hi')\ntitan_job.result({'a': 1})\n")
    return str(path)


def run_jobs(client: TitanClient, script: str) -> None:
    for number in range(JOBS):
        job = TitanJob(f"n{number}-{uuid.uuid4().hex[:8]}", script)
        report = client.submit_job(job).wait(timeout=120)
        assert (report.result, report.attempts) == ({"a": 1}, 1)


def test_requests(tmp_path: Path, script: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    master = MasterProcess(tmp_path / "data", metrics_port=port)

    def answered() -> Counter[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            lines = reply.read().decode()
        found = re.findall(r'^titan_requests_total\{operation="(.+)"\} (\S+)$', lines, re.MULTILINE)
        return Counter({name: int(float(count)) for name, count in found})

    try:
        with TitanClient(*master.start().address) as client:
            client.server_info()
            before = answered()
            run_jobs(client, script)
            made = answered() - before
            assert made.total() <= JOBS * REQUESTS, made
    finally:
        master.close()


def test_transactions(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[str] = []
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def note(statement: str) -> None:
        if statement.lstrip().upper().startswith("COMMIT"):
            commits.append(statement)

    def watched(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(note)
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    with (
        LocalCluster({"GENERAL": 1}, data_dir=tmp_path / "data") as running,
        TitanClient(running.host, running.port) as client,
    ):
        client.server_info()
        commits.clear()
        run_jobs(client, script)
        assert len(commits) <= JOBS * TRANSACTIONS
