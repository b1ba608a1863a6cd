"""Every example DAG is imported without touching the network, and then runs in a real Airflow."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Master
from tests.examples.player import free_port
from tests.rules.sources import ROOT
from titan_sdk.cluster import LocalCluster

DAGS = ROOT / "dags_examples"
FILES = sorted(DAGS.glob("example_*.py"))
SERVICE_PORT = "18650"
XCOM_BACKEND = "titan_provider.xcom.titan_store.TitanStoreXComBackend"

# Slow: Each example runs in a real Airflow.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(480), pytest.mark.slow]


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a socket or fetches an Airflow connection fails."""
    from titan_provider.compat import BaseHook

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a DAG file opened a connection while it was parsed")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(BaseHook, "get_connection", refuse)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_parsing_an_example_opens_no_connection(path: Path, no_connections: None) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.dag.dag_id == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_says_what_it_shows_and_needs(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert "titan_default" in docstring


@pytest.fixture(scope="module")
def runs(cluster: Master, airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All examples, run one after the other in one Airflow process with the XCom backend on."""
    return play(cluster, tmp_path_factory.mktemp("examples"), *(path.stem for path in FILES))


def play(cluster: Master | LocalCluster, folder: Path, *dag_ids: str) -> dict[str, Any]:
    """The examples in a copy, whose service listens on a port that is free here."""
    shutil.copytree(DAGS, folder, dirs_exist_ok=True)
    service = folder / "example_titan_service.py"
    text = service.read_text(encoding="utf-8")
    assert text.count(SERVICE_PORT) == 1
    service.write_text(text.replace(SERVICE_PORT, str(free_port())), encoding="utf-8")
    environ = dict(os.environ) | {
        "AIRFLOW_CONN_TITAN_DEFAULT": f"titan://{cluster.host}:{cluster.port}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "AIRFLOW__CORE__XCOM_BACKEND": XCOM_BACKEND,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    command = [sys.executable, "-m", "tests.support.run_dags", str(folder), *dag_ids]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    ended: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for run in ended.values():
        run["log"] = done.stdout
    return ended


@pytest.mark.parametrize("dag_id", [path.stem for path in FILES])
def test_an_example_runs(dag_id: str, runs: dict[str, Any]) -> None:
    run = runs[dag_id]
    assert run["state"] == "success", f"{run['tasks']}\n{run['log'][-8000:]}"


@pytest.mark.usefixtures("airflow_home")
def test_the_service_example_needs_no_host_from_the_master(tmp_path: Path) -> None:
    """A real Titan does not tell where a service runs."""
    with LocalCluster(strict_titan=True) as strict:
        run = play(strict, tmp_path, "example_titan_service")["example_titan_service"]
    assert run["state"] == "success", f"{run['tasks']}\n{run['log'][-8000:]}"


def test_airflow_is_told_to_leave_the_workers_scripts_alone() -> None:
    """A script of jobs/ parsed as a DAG file would train a model in the DAG processor."""
    ignored = (DAGS / ".airflowignore").read_text(encoding="utf-8")
    folders = {path.relative_to(DAGS).parts[0] for path in DAGS.rglob("*.py") if path.parent != DAGS}
    assert {f"{folder}/**" for folder in folders} <= set(ignored.splitlines())


def test_the_page_names_each_example_and_the_files_it_needs() -> None:
    page = (DAGS / "README.md").read_text("utf-8")
    rows = {row.split("|")[1].strip(" `"): row.split("|")[3] for row in page.splitlines() if row[:3] == "| `"}
    assert sorted(rows) == [path.name for path in FILES]
    for path in FILES:
        needed = {
            node.value
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.endswith(".py")
            and "\n" not in node.value
        }
        needed |= {
            node.value.value
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.keyword)
            and node.arg == "project"
            and isinstance(node.value, ast.Constant)
        }
        assert all(f"{name}`" in rows[path.name] for name in needed), path.name
        named = [name.strip(" `") for name in rows[path.name].split(",") if name.strip()]
        assert len(named) == len(needed), path.name
        assert all((DAGS / name).exists() for name in named), path.name
