"""Which Airflow the tests run on: `make test-airflow2` runs the provider's on 2.11, everything else on 3."""

from __future__ import annotations

from importlib.metadata import version

import pytest

__all__ = ["AIRFLOW_2", "dag_file_option", "needs_airflow_3"]

AIRFLOW_2 = version("apache-airflow").startswith("2.")


def needs_airflow_3(why: str) -> pytest.MarkDecorator:
    """Skip where Airflow cannot do what is tested; docs/airflow-2.md lists the same."""
    return pytest.mark.skipif(AIRFLOW_2, reason=f"Airflow 2: {why}")


def dag_file_option() -> str:
    """Option of `airflow dags test` that names the file to parse."""
    return "-S" if AIRFLOW_2 else "-f"
