"""The example DAGs in a running Airflow: scheduler, executor, triggerer, REST API."""

from __future__ import annotations

import json
import re

from tests.conftest import Master
from tests.e2e.lab import Standalone
from tests.support.airflow_run import unique
from titan_sdk import TitanClient

PIPELINE = "example_titan_pipeline"


def test_pipeline_triggered_over_rest_leaves_its_metrics_in_titan_store(
    airflow: Standalone, cluster: Master
) -> None:
    run_id = airflow.run_dag(PIPELINE, seconds=240)
    assert set(airflow.task_states(PIPELINE, run_id).values()) == {"success"}
    reference = airflow.xcom(PIPELINE, run_id, "evaluate")
    reference = json.loads(reference) if isinstance(reference, str) else reference
    assert reference["titan_xcom"] == 1
    with TitanClient(cluster.host, cluster.port) as client:
        metrics = json.loads(client.store_get(reference["key"]) or "null")
    assert metrics["accuracy"] > 0.9
    assert metrics["model_was_on_this_node"] is True


def test_job_log_is_in_the_task_log(airflow: Standalone) -> None:
    run_id = airflow.run_dag(PIPELINE, seconds=240)
    log = airflow.task_log(PIPELINE, run_id, "prepare")
    assert log.count("images to train on") == 1


def test_deferred_task_waits_in_the_triggerer_and_returns_its_result(airflow: Standalone) -> None:
    run_id = airflow.run_dag("example_titan_deferrable", seconds=240)
    log = airflow.task_log("example_titan_deferrable", run_id, "count_down")
    # The job's own lines; "Progress: 67 %, 1 s left" is told besides.
    assert [len(re.findall(rf"(?<!%, ){left} s left", log)) for left in (2, 1)] == [1, 1]
    reference = airflow.xcom("example_titan_deferrable", run_id, "count_down")
    assert "lift-off" in str(reference)


def test_two_runs_at_once_have_a_job_each(airflow: Standalone) -> None:
    runs = [airflow.trigger("sync_once", unique("run")) for _ in range(2)]
    jobs = [run.started() for run in runs]
    for run, job in zip(runs, jobs, strict=True):
        run.open_gate()
        run.wait_for("success")
        assert run.starts() == [job]
        assert run.result()["job"] == job
    assert len(set(jobs)) == 2
