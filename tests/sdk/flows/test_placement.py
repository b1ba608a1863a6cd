"""A tag that nobody has is refused where it would harm others, and waits where it would not."""

from __future__ import annotations

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, InvalidJob, TitanJob
from titan_sdk.flows.submit import submit_dag
from titan_sdk.session import Session
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "job.py"
    path.write_text("pass")
    return TitanJob("j", str(path), requirement="gpu")


def test_a_real_master_never_gets_a_job_that_no_worker_can_run(job):
    runner = FlowRunner(MasterModel())
    with pytest.raises(
        InvalidJob,
        match=r"requirement 'gpu': no worker has the tag 'gpu' \(tags present: GENERAL, GPU\); did you mean 'GPU'\?",
    ):
        runner.run(submit_dag(Session(ClientConfig()), "d", [job]))
    assert not runner.sent(Opcode.SUBMIT_DAG)
    assert not runner.sent(Opcode.KV_SET)


def test_a_cluster_without_workers_is_named_as_such(job):
    master = MasterModel()
    master.tags = []
    with pytest.raises(InvalidJob, match="the cluster has no workers"):
        FlowRunner(master).run(submit_dag(Session(ClientConfig()), "d", [job]))


def test_the_bundled_master_keeps_such_a_job_waiting(job):
    runner = FlowRunner(MasterModel(bundled=True))
    runner.run(submit_dag(Session(ClientConfig()), "d", [job]))
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 1
