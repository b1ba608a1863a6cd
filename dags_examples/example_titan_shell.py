"""A shell script as a job: the same arguments, environment, parameters and results. Needs: `titan_default`."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from titan_provider.operators.titan import TitanJobOperator

COUNT_FILES = """#!/bin/bash
set -euo pipefail
count=$(find "$1" -maxdepth 1 -type f | wc -l)
echo "$count files in $1 on $(hostname)"
python3 -m titan_job result "{\\"files\\": $count}"
"""

with DAG("example_titan_shell", schedule=None, tags=["example", "titan"]) as dag:
    count_files = TitanJobOperator(task_id="count_files", script=COUNT_FILES, args=["/etc"])
