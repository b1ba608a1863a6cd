"""The SDK's example scripts, run as a person would: in their folder, the master named by the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Master
from tests.rules.sources import ROOT

FOLDER = ROOT / "dags_examples" / "sdk"
PRINTS = {
    "one_job.py": ["row 0 from shop", "COMPLETED", "'rows': 3"],
    "nightly_pipeline.py": ["extract_data", "train_model", "COMPLETED", "'device'"],
    "many_jobs.py": ["rows: 45"],
    "task_a.py": ["stored"],
    "task_b.py": ["accuracy 98.5 over batch_A.csv"],
}


def run(script: Path, master: Master, folder: Path) -> str:
    environ = dict(os.environ) | {"TITAN_HOST": master.host, "TITAN_PORT": str(master.port)}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PRINTS)
def test_sdk_example_runs(name: str, cluster: Master) -> None:
    if name == "task_b.py":
        run(FOLDER / "task_a.py", cluster, FOLDER)
    printed = run(FOLDER / name, cluster, FOLDER)
    assert [text for text in PRINTS[name] if text not in printed] == []


def test_every_sdk_example_is_run() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(PRINTS)


# -- the reference that this SDK was ordered from, word for word ------------------------------------------

SEED_CLIENT_AND_JOB = """
from titan_sdk import TitanClient
# Initialize connection (defaults to localhost:9090)
client = TitanClient(host="localhost", port=9090)

from titan_sdk import TitanJob

job = TitanJob(
    job_id="train_v1",
    filename="scripts/train.py",
    requirement="GPU",       # Optional: "GPU" or "GENERAL"
    priority=10,             # Optional: Higher numbers schedule first
    parents=["data_prep"],   # Optional: List of parent Job IDs
    is_archive=False         # Set True if deploying a ZIP/Service
)
"""

SEED_DAG = """
from titan_sdk import TitanClient, TitanJob

client = TitanClient()

# Step 1: Define the Root Job (No parents)
task_a = TitanJob(
    job_id="extract_data",
    filename="etl/extract.py",
    priority=5
)

# Step 2: Define a Dependent Job
task_b = TitanJob(
    job_id="train_model",
    filename="ml/train.py",
    requirement="GPU",
    parents=["extract_data"]  # <--- Defines the dependency
)

# Step 3: Submit them as a unified DAG
client.submit_dag("nightly_pipeline", [task_a, task_b])
print("DAG Submitted!")
"""

SEED_PRODUCER = """
from titan_sdk import TitanClient

client = TitanClient()

# Save a result globally before the task exits
client.store_put("task_123_accuracy", "98.5")
client.store_sadd("processed_files", "batch_A.csv")
"""

SEED_CONSUMER = """
from titan_sdk import TitanClient

client = TitanClient()
assert client.store_get("task_123_accuracy") == "98.5"
assert "batch_A.csv" in client.store_smembers("processed_files")
"""


@pytest.fixture
def seed_folder(tmp_path: Path) -> Path:
    """The files that the reference's snippets name."""
    for name in ("scripts/train.py", "etl/extract.py", "ml/train.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"print({name!r})\n", encoding="utf-8")
    return tmp_path


def test_seed_client_and_job_as_written(seed_folder: Path, cluster: Master) -> None:
    (seed_folder / "seed.py").write_text(SEED_CLIENT_AND_JOB, encoding="utf-8")
    run(seed_folder / "seed.py", cluster, seed_folder)


def test_seed_dag_as_written(seed_folder: Path, cluster: Master) -> None:
    from titan_sdk import TitanClient

    (seed_folder / "seed.py").write_text(SEED_DAG, encoding="utf-8")
    assert "DAG Submitted!" in run(seed_folder / "seed.py", cluster, seed_folder)
    with TitanClient(cluster.host, cluster.port) as client:
        for job_id in ("extract_data", "train_model"):
            assert client.wait_for_job(job_id, timeout=300).state == "COMPLETED"


def test_seed_producer_and_its_consumer(seed_folder: Path, cluster: Master) -> None:
    for name, text in {"task_a.py": SEED_PRODUCER, "task_b.py": SEED_CONSUMER}.items():
        (seed_folder / name).write_text(text, encoding="utf-8")
        run(seed_folder / name, cluster, seed_folder)
