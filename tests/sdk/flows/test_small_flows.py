"""Pipelines, leases, staging and the store where a real master needs more than one exchange."""

from __future__ import annotations

import json

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import (
    ClientConfig,
    ConnectionLost,
    CorruptData,
    InvalidDag,
    InvalidPipeline,
    MissingFile,
    NotFound,
    TitanJob,
)
from titan_sdk.flows import large_values, owner_lease
from titan_sdk.flows.pipeline import submit_yaml
from titan_sdk.flows.report import JobRef
from titan_sdk.flows.store import store_sadd
from titan_sdk.flows.submit import submit_dag
from titan_sdk.session import Session
from titan_sdk.wire import fields
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture
def session():
    return Session(ClientConfig())


@pytest.mark.parametrize("project", [True, False])
def test_a_pipeline_file_becomes_a_dag_and_a_project_travels_first(session, tmp_path, project):
    (tmp_path / "a.py").write_text("pass")
    path = tmp_path / "p.yaml"
    path.write_text(f"name: pipe\nproject: {str(project).lower()}\njobs: [{{id: a, file: a.py}}]\n")
    runner = FlowRunner(MasterModel())
    assert runner.run(submit_yaml(session, path, "run7")).name == "pipe"
    assert (
        any(payload.startswith("titan-project-") for payload in runner.sent(Opcode.UPLOAD_ASSET)) is project
    )
    assert '"agent_run_id": "run7"' in "".join(runner.sent(Opcode.KV_SET))


@pytest.mark.parametrize(
    ("before", "place", "problem"),
    [
        ({}, "4: key 'depends_on'", "neither in this DAG nor known to the master"),
        ({"DAG-up": "COMPLETED", "DAG-a": "CANCELLED"}, "3: key 'id'", "was cancelled on this master"),
    ],
)
def test_what_only_the_master_knows_is_found_in_the_file_too(session, tmp_path, before, place, problem):
    (tmp_path / "a.py").write_text("pass")
    path = tmp_path / "p.yaml"
    path.write_text("project: false\njobs:\n  - id: a\n    depends_on: [up]\n    file: a.py\n")
    master = MasterModel()
    master.status = before
    with pytest.raises(InvalidPipeline, match=rf"p\.yaml:{place}: DAG 'titan_agent': .*{problem}"):
        FlowRunner(master).run(submit_yaml(session, path))


def test_what_is_wrong_with_no_single_line_stays_what_it_is(session, tmp_path):
    (tmp_path / "a.py").write_text("pass")
    path = tmp_path / "p.yaml"
    path.write_text(
        "project: false\njobs:\n  - {id: a, file: a.py, hitl_message: sure}\n  - {id: hitl-gate-a, file: a.py}\n"
    )
    with pytest.raises(InvalidDag, match="its gate's name 'hitl-gate-a' is another job's"):
        FlowRunner(MasterModel()).run(submit_yaml(session, path))


def test_a_lease_is_renewed_under_the_latest_submission(session):
    master = MasterModel()
    master.kv["titan:job:DAG-a"] = json.dumps({"v": 1, "nonce": "0" * 16})
    FlowRunner(master).run(owner_lease.renew(JobRef("a")))
    assert json.loads(master.kv[f"titan:run:DAG-a:{'0' * 16}:lease"])["renewed_at"] > 0
    with pytest.raises(NotFound, match="there is no record of a job 'b'"):
        FlowRunner(master).run(owner_lease.renew(JobRef("b")))


def test_a_job_with_a_lease_begins_with_a_renewal(session, tmp_path):
    (tmp_path / "a.py").write_text("pass")
    master = MasterModel()
    job = TitanJob("a", str(tmp_path / "a.py"), owner_lease=30)
    run = FlowRunner(master).run(submit_dag(session, "d", [job])).run_id
    assert f"titan:run:DAG-a:{run}:lease" in master.kv


def test_a_script_that_is_gone_since_is_named(session, tmp_path):
    path = tmp_path / "a.py"
    path.write_text("pass")
    job = TitanJob("a", str(path))
    path.unlink()
    with pytest.raises(MissingFile, match="is gone since the job was made"):
        FlowRunner(MasterModel()).run(submit_dag(session, "d", [job]))


def test_questions_that_break_while_a_lost_reply_is_settled_are_asked_again(session, tmp_path):
    (tmp_path / "a.py").write_text("pass")
    master = MasterModel()
    asked = []

    def accept_and_lose(payload):
        master.accept(payload)
        asked.append(payload)
        raise ConnectionLost("lost")

    def answer(call):
        if asked and len(asked) < 3 and call.opcode is Opcode.GET_JOB_STATUS:
            asked.append("question")
            raise ConnectionLost("lost too")
        return master(call)

    master.on_submit = accept_and_lose
    runner = FlowRunner(answer)
    runner.run(submit_dag(session, "d", [TitanJob("a", str(tmp_path / "a.py"), runtime=False)]))
    assert len(runner.sent(Opcode.SUBMIT_DAG)) == 1


@pytest.mark.parametrize(("members", "added"), [("", 1), ("x,y", 1), ("x,m", 0)])
def test_a_real_masters_set_is_read_before_a_member_is_added(session, members, added):
    found = {*members.split(",")} - {""}

    def answer(call):
        if call.opcode is Opcode.KV_SADD:
            found.add(call.payload.removeprefix("k|"))
        return {
            Opcode.HELLO: "UNKNOWN_OPCODE: 64",
            Opcode.KV_SMEMBERS: ",".join(found),
            Opcode.KV_SADD: "0",
        }[call.opcode]

    runner = FlowRunner(answer)
    assert runner.run(store_sadd(session, "k", "m")) == added
    assert len(runner.sent(Opcode.KV_SADD)) == added


def test_a_value_in_parts_is_put_together_and_its_old_parts_become_empty(session):
    master = MasterModel()
    runner = FlowRunner(master)
    for text in ("a" * 12_000_000, "b" * 11_000_000):
        assert large_values.is_large("k", text)
        runner.run(large_values.put(session, "k", text))
    assert runner.run(large_values.get("k", master.kv["k"])) == "b" * 11_000_000
    assert sum(len(value) for value in master.kv.values()) < 11_001_000


def test_a_value_whose_parts_are_gone_or_changed_is_an_error(session):
    master = MasterModel()
    runner = FlowRunner(master)
    runner.run(large_values.put(session, "k", "a" * 11_000_000))
    part = next(key for key in master.kv if "~part~" in key)
    master.kv[part] = master.kv[part][:-1] + "b"
    with pytest.raises(CorruptData, match="are not those that were written"):
        runner.run(large_values.get("k", master.kv["k"]))
    master.kv[part] = ""
    with pytest.raises(CorruptData, match="part 1 of"):
        runner.run(large_values.get("k", master.kv["k"]))
    with pytest.raises(CorruptData, match="a reference that cannot be read"):
        runner.run(large_values.get("k", fields.PARTS_MARK + "{}"))
