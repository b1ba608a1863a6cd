"""What the task log shows of a job's secrets, whoever copies its lines."""

from __future__ import annotations

import pytest

from tests.e2e.lab import Standalone
from tests.support.airflow_run import unique


@pytest.mark.parametrize("mode", ["sync", "deferred"])
def test_secrets_are_masked(airflow: Standalone, mode: str) -> None:
    run = airflow.trigger(f"log_{mode}_secret", unique("secret"))
    run.wait_for("success")
    log = "\n".join(run.log_lines())
    assert "the token is ***" in log
    assert "xyzzy" not in log
