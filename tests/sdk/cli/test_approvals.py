"""titan approvals."""

from __future__ import annotations

import secrets

from titan_sdk import TitanClient, TitanJob


def test_a_waiting_gate_is_listed_and_decided(titan, client: TitanClient, script) -> None:
    job_id = f"cli-{secrets.token_hex(4)}"
    dag = client.submit_dag(job_id, [TitanJob(job_id, str(script("pass")), hitl_message="deploy [now]?")])
    gate = f"hitl-gate-{job_id}"
    while not [p for p in titan("approvals", "list", "--json").json if p["gate_id"] == gate]:
        assert not dag.status().is_terminal
    listed = titan("approvals", "list").out
    assert gate in listed
    assert "deploy [now]?" in listed
    assert titan("approvals", "approve", job_id, "--json").json == {"gate_id": gate, "decision": "APPROVED"}
    assert dag.wait(timeout=120).state == "COMPLETED"
    ran = titan("approvals", "reject", job_id)
    assert (ran.code, ran.out) == (5, "")
    assert "it was approved" in ran.err


def test_an_empty_list_says_so(titan, monkeypatch) -> None:
    monkeypatch.setattr(TitanClient, "pending_approvals", lambda self: [])
    assert titan("approvals", "list").out == "no gate waits for a decision\n"


def test_a_rejection_is_told(titan, client: TitanClient, script) -> None:
    job_id = f"cli-{secrets.token_hex(4)}"
    dag = client.submit_dag(job_id, [TitanJob(job_id, str(script("pass")), hitl_message="?")])
    while job_id not in [p.job_id for p in client.pending_approvals()]:
        assert not dag.status().is_terminal
    assert titan("approvals", "reject", job_id).out == f"rejected hitl-gate-{job_id}\n"
    assert dag.wait(timeout=120, raise_on_failure=False).failures
