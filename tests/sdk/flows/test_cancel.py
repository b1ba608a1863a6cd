"""A cancel says how the job stands afterwards, and touches nothing that has ended or never was."""

from __future__ import annotations

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import JobStatus, NotFound
from titan_sdk.flows.cancel import cancel_dag, cancel_job
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture
def master():
    made = MasterModel()
    made.status = {"DAG-done": "COMPLETED", "DAG-run": "RUNNING", "DAG-wait": "PENDING"}
    return made


def test_an_unknown_id_is_not_sent(master):
    runner = FlowRunner(master)
    with pytest.raises(NotFound, match="does not know the job 'gone'"):
        runner.run(cancel_job("gone"))
    assert not runner.sent(Opcode.CANCEL_JOB)


def test_a_dag_is_cancelled_from_its_end_without_what_has_ended(master):
    runner = FlowRunner(master)
    assert runner.run(cancel_dag(["done", "run", "wait"])) == {
        "done": JobStatus.COMPLETED,
        "run": JobStatus.CANCELLED,
        "wait": JobStatus.CANCELLED,
    }
    assert runner.sent(Opcode.CANCEL_JOB) == ["DAG-wait", "DAG-run"]
