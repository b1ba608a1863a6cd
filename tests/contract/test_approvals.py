"""Approval gates: what is behind a gate waits for a person."""

from __future__ import annotations

import pytest

from titan_sdk import DagFailed, NotFound, TitanJob
from titan_sdk.model.gates import status_key

# Slow: Gates wait real seconds, with both clients.
pytestmark = pytest.mark.slow

MESSAGE = 'Grüße | "go"; [yes], 日本?\nsecond line'


@pytest.fixture
def submit(api, unique, script):
    """Submits prepare -> (gate) -> train, and waits until the gate asks."""

    def start(**options):
        run = unique("hitl")
        first = TitanJob(f"{run}-prepare", script("print('ready')"), hitl_message=MESSAGE, **options)
        second = TitanJob(
            f"{run}-train",
            script("import titan_job; titan_job.result('trained')", "t.py"),
            parents=[first.job_id],
        )
        return api.submit_dag(run, [first, second])

    return start


def waiting(api, dag):
    """The gate's entry, once it is in the list."""
    while True:
        for pending in api.pending_approvals():
            if pending.job_id == dag.jobs[0].job_id:
                return pending
        assert not dag[dag.jobs[1].job_id].status().is_terminal, dag.jobs[1].logs()


def test_what_is_behind_a_gate_runs_after_the_approval(api, submit):
    dag = submit()
    prepare, gate, train = dag.jobs
    assert gate.job_id == f"hitl-gate-{prepare.job_id}"
    pending = waiting(api, dag)
    assert (pending.gate_id, pending.message) == (gate.job_id, MESSAGE)
    assert pending.since is not None
    assert train.status() == "PENDING"
    assert api.approve(prepare.job_id) == api.approve("DAG-" + gate.job_id) == gate.job_id
    dag.wait(timeout=300)
    assert train.result() == "trained"
    assert gate.result()["decision"] == "APPROVED"
    assert gate.job_id not in [p.gate_id for p in api.pending_approvals()]


def test_a_rejection_keeps_what_is_behind_from_running(api, submit):
    dag = submit()
    waiting(api, dag)
    api.reject(dag.jobs[1].job_id)
    with pytest.raises(DagFailed, match="Rejected: rejected after") as failure:
        dag.wait(timeout=300)
    assert failure.value.dag_report[dag.jobs[2].job_id].upstream_failed == (dag.jobs[1].job_id,)
    with pytest.raises(NotFound, match="it was rejected"):
        api.approve(dag.jobs[1].job_id)


def test_a_gate_waits_its_time_once(api, submit):
    dag = submit(max_wait_seconds=1)
    with pytest.raises(DagFailed, match="NoDecision: nobody decided within 1 s") as failure:
        dag.wait(timeout=300)
    report = failure.value.dag_report[dag.jobs[1].job_id]
    assert report.attempts == 1
    assert report.seconds < 60
    assert api.store_get(status_key(dag.jobs[1].job_id)) == "TIMEOUT"


def test_an_old_decision_approves_nothing(api, unique, script):
    job_id = unique("old")
    gate = f"hitl-gate-{job_id}"
    api.store_put(status_key(gate), "APPROVED")
    dag = api.submit_dag(job_id, [TitanJob(job_id, script("pass"), hitl_message="sure?")])
    waiting(api, dag)
    api.approve(gate)
    dag.wait(timeout=300)


def test_a_cancelled_gate_is_not_listed(api, submit):
    dag = submit()
    waiting(api, dag)
    dag.cancel()
    assert dag.jobs[0].job_id not in [p.job_id for p in api.pending_approvals()]


def test_a_gate_nobody_knows_is_not_found(api, unique):
    with pytest.raises(NotFound, match="there is no gate of that name"):
        api.approve(unique("nothing"))
