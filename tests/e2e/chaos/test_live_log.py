"""A job that prints without end does not fill the task log."""

from __future__ import annotations

import re

import pytest

from tests.e2e.lab import Lab
from tests.support.airflow_run import unique
from titan_provider.work.joblog import MAX_LINES

pytestmark = pytest.mark.timeout(480)


@pytest.mark.parametrize("mode", ["sync", "deferred"])
def test_output_without_end_is_cut(lab: Lab, mode: str) -> None:
    run = lab.trigger(f"log_{mode}_chatty", unique("chatty"))
    run.wait_for("success", seconds=150)
    log = run.log_lines()
    lines = [line for line in log if re.fullmatch(r"line \d+", line)]
    assert lines == [f"line {n}" for n in range(len(lines))]
    assert MAX_LINES - 10 <= len(lines) <= MAX_LINES
    assert any("the rest is not copied" in line for line in log)
