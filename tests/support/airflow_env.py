"""A database for tests that run a real Airflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def migrate(home: Path) -> None:
    """Create the schema once per test session; about six seconds."""
    (home / "dags").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
