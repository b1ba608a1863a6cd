"""Decisions on gates: nothing is decided that does not wait, and nothing is believed that was not read back."""

from __future__ import annotations

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, NotFound, RequestRefused, StoreUnavailable, TitanJob
from titan_sdk.flows.approvals import decide, pending_approvals
from titan_sdk.flows.submit import submit_dag
from titan_sdk.session import Session
from titan_sdk.wire.opcodes import Opcode

STATUS = "titan:hitl:status:hitl-gate-a"


@pytest.fixture
def master():
    return MasterModel()


@pytest.mark.parametrize(
    ("word", "why"),
    [
        (None, "there is no gate of that name"),
        ("CLEARED", "it has not been reached yet"),
        ("TIMEOUT", "its time is over"),
        ("REJECTED", "it was rejected"),
        ("huh", "its status is 'huh'"),
    ],
)
def test_only_a_waiting_gate_can_be_approved(master, word, why):
    if word:
        master.kv[STATUS] = word
    runner = FlowRunner(master)
    with pytest.raises(NotFound, match=why):
        runner.run(decide("a", approved=True))
    assert not runner.sent(Opcode.KV_SET)


def test_an_approved_gate_cannot_be_rejected_and_may_be_approved_again(master):
    master.kv[STATUS] = "APPROVED"
    assert FlowRunner(master).run(decide("a", approved=True)) == "hitl-gate-a"
    with pytest.raises(NotFound, match=r"reject: .* \(it was approved\)"):
        FlowRunner(master).run(decide("a", approved=False))


def test_a_decision_that_does_not_stay_is_an_error(master):
    master.kv[STATUS] = "WAITING"

    def answer(call):
        return "OK" if call.opcode is Opcode.KV_SET else master(call)

    with pytest.raises(RequestRefused, match="reads 'WAITING' after the decision"):
        FlowRunner(answer).run(decide("a", approved=True))


def test_the_list_holds_what_waits_longest_first(master):
    def answer(call):
        return (
            "hitl-gate-a,hitl-gate-b,hitl-gate-c,hitl-gate-d"
            if call.opcode is Opcode.KV_SMEMBERS
            else master(call)
        )

    for gate, word, ts in (
        ("a", "WAITING", "2000"),
        ("b", "WAITING", "1500"),
        ("c", "APPROVED", "1"),
        ("d", "WAITING", "x"),
    ):
        master.kv[f"titan:hitl:status:hitl-gate-{gate}"] = word
        master.kv[f"titan:hitl:ts:hitl-gate-{gate}"] = ts
    found = FlowRunner(answer).run(pending_approvals())
    assert [(p.job_id, p.since, p.message) for p in found] == [
        ("d", None, ""),
        ("b", 1.5, ""),
        ("a", 2.0, ""),
    ]
    master.status["DAG-hitl-gate-b"] = "CANCELLED"
    assert [p.job_id for p in FlowRunner(answer).run(pending_approvals())] == ["d", "a"]


def test_a_store_that_keeps_nothing_stops_the_submit(master, tmp_path):
    script = tmp_path / "a.py"
    script.write_text("pass")
    runner = FlowRunner(lambda call: "OK" if call.opcode is Opcode.KV_SET else master(call))
    with pytest.raises(StoreUnavailable, match="nothing was submitted"):
        runner.run(submit_dag(Session(ClientConfig()), "d", [TitanJob("a", str(script), hitl_message="?")]))
    assert not runner.sent(Opcode.SUBMIT_DAG)


def test_a_decision_that_stays_opens_the_gate(master):
    master.kv[STATUS] = "WAITING"
    assert FlowRunner(master).run(decide("DAG-hitl-gate-a", approved=False)) == "hitl-gate-a"
    assert master.kv[STATUS] == "REJECTED"
