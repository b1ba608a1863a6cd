"""OpenLineage facets. The real OpenLineage provider reads them; an Airflow without it is served too."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from titan_provider.decorators.titan import titan_task
from titan_provider.exceptions import TitanDagFailed, TitanJobFailed
from titan_provider.openlineage import TitanLineage, job_facts
from titan_provider.operators.dag import TitanDagOperator
from titan_provider.operators.titan import TitanJobOperator
from titan_sdk import JobReport, JobStatus

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_connection")]

METHODS = (
    "get_openlineage_facets_on_start",
    "get_openlineage_facets_on_complete",
    "get_openlineage_facets_on_failure",
)


def execute(task: Any) -> Any:
    ti = SimpleNamespace(
        dag_id="d",
        task_id="t",
        run_id="r",
        map_index=-1,
        try_number=1,
        max_tries=0,
        xcom_push=lambda **_: None,
    )
    return task.execute({"ti": ti, "dag_run": SimpleNamespace(clear_number=0, start_date=None)})


def test_the_operators_have_the_methods_that_the_provider_looks_for() -> None:
    for operator in (TitanJobOperator, TitanDagOperator):
        assert issubclass(operator, TitanLineage)
        assert all(callable(getattr(operator, name)) for name in METHODS)


def test_facts_of_a_job_hold_neither_result_nor_log() -> None:
    report = JobReport(
        "j", JobStatus.COMPLETED, 0, attempts=1, worker="GPU-1", started_at=1.0, ended_at=3.5, result="x"
    )
    assert job_facts(report) == {
        "jobId": "j",
        "state": "COMPLETED",
        "exitCode": 0,
        "attempts": 1,
        "worker": "GPU-1",
        "seconds": 2.5,
    }


def test_without_the_provider_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.conf", None)
    task = TitanJobOperator(task_id="t", script="print(1)", durable=False)
    assert [getattr(task, name)(*([None] * ("start" not in name))) for name in METHODS] == [None] * 3


class TestWithTheProvider:
    def extract(self, task: Any, when: str) -> Any:
        from airflow.providers.openlineage.extractors.base import DefaultExtractor
        from openlineage.client.serde import Serde

        extractor = DefaultExtractor(task)
        found = extractor.extract() if when == "start" else getattr(extractor, f"extract_on_{when}")(None)
        facets = {"run": found.run_facets, "job": found.job_facets}
        return {
            kind: {name: json.loads(Serde.to_json(f)) for name, f in of.items()}
            for kind, of in facets.items()
        }

    def test_a_job_that_completed(self) -> None:
        task = TitanJobOperator(task_id="t", script="print(1)", durable=False)
        started = self.extract(task, "start")
        assert started["run"] == {}
        assert started["job"]["sourceCode"]["sourceCode"] == "print(1)"
        assert started["job"]["sourceCode"]["language"] == "python"
        execute(task)
        facets = self.extract(task, "complete")["run"]
        (job,) = facets["titan_jobs"]["jobs"]
        assert (job["state"], job["exitCode"]) == ("COMPLETED", 0)
        assert facets["externalQuery"]["externalQueryId"] == job["jobId"]
        assert "errorMessage" not in facets

    def test_a_job_that_failed(self) -> None:
        task = TitanJobOperator(task_id="t", script="raise ValueError('no rows')", durable=False)
        with pytest.raises(TitanJobFailed):
            execute(task)
        error = self.extract(task, "failure")["run"]["errorMessage"]
        assert "ValueError: no rows" in error["message"]
        assert "line 1, in <module>" in error["stackTrace"]

    def test_several_jobs(self) -> None:
        jobs = [
            {"job_id": "b", "script": "print(1)", "parents": ["a"]},
            {"job_id": "a", "script": "#!/bin/sh\nexit 3"},
        ]
        task = TitanDagOperator(task_id="t", jobs=jobs, poll_interval=0.1, durable=False)
        with pytest.raises(TitanDagFailed):
            execute(task)
        facets = self.extract(task, "failure")["run"]
        assert [job["state"] for job in facets["titan_jobs"]["jobs"]] == ["DEAD", "DEAD"]
        assert "exit code 3" in facets["errorMessage"]["message"]

    def test_a_decorated_function_is_the_source(self) -> None:
        @titan_task
        def double(n: int) -> int:
            # kept
            return n * 2

        code = self.extract(double(2).operator, "start")["job"]["sourceCode"]["sourceCode"]
        assert code.startswith("def double(n: int) -> int:")
        assert "# kept" in code
