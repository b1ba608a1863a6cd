"""What the dashboard is told of a submission, key for key; over HTTP it is ``tests/sdk/test_dashboard.py``."""

from __future__ import annotations

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, TitanJob
from titan_sdk.flows.submit import submit_dag
from titan_sdk.session import Session

STAGES = "titan:agent_run:r1"


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "j.py"
    path.write_text("pass")
    return str(path)


def told(master, dag, jobs, agent_run_id=None):
    manifests = []
    session = Session(ClientConfig(), on_submitted=manifests.append)
    FlowRunner(master).run(submit_dag(session, dag, jobs, agent_run_id))
    (manifest,) = manifests
    return manifest


def test_the_stages_of_an_agent_run_add_up_each_once(script):
    master = MasterModel()
    assert told(master, "one", [TitanJob("a", script)], "r1")["__agent_run__r1"]["stages"] == ["one"]
    for index in range(2):
        found = told(master, "two", [TitanJob(f"b{index}", script)], "r1")
        assert found["__agent_run__r1"]["stages"] == ["one", "two"]
        assert found[f"DAG-b{index}"]["agent_run_id"] == "r1"


@pytest.mark.parametrize("text", ["no json", "{}", "7", '["kept", 7]'])
def test_what_somebody_else_keeps_under_the_runs_key_fails_no_submit(script, text):
    master = MasterModel()
    master.kv[STAGES] = text
    expected = ["kept", "one"] if "kept" in text else ["one"]
    assert told(master, "one", [TitanJob("a", script)], "r1")["__agent_run__r1"]["stages"] == expected


def test_only_what_would_run_again_is_offered_for_it(script):
    plain = [TitanJob("a", script, runtime=False), TitanJob("b", script, parents=["a"], runtime=False)]
    found = told(MasterModel(), "d", plain)
    assert found["DAG-b"]["deps"] == ["DAG-a"]
    assert found["__payload__d"]["dag_payload"].startswith(
        "b|RUN_PAYLOAD|j.py||cGFzcw==|GENERAL|1|0|[a] ; a|"
    )
    assert found["__job_payload__DAG-b"].endswith("|[]")
    mixed = told(MasterModel(), "d", [TitanJob("c", script, runtime=False), TitanJob("d", script)])
    assert set(mixed) == {"DAG-c", "DAG-d", "__job_payload__DAG-c"}
