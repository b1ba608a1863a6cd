"""Titan's dashboard over real HTTP: what it is told after a submit, and what it is asked."""

from __future__ import annotations

import json
import logging
import secrets
import socket

import pytest

from tests.support.blocking_async import BlockingAsyncClient
from tests.support.http_dashboard import HttpDashboard
from titan_sdk import (
    ClientConfig,
    ConnectFailed,
    InvalidArgument,
    NotFound,
    PeerProtocolError,
    PendingApproval,
    RequestRefused,
    TimedOut,
    TitanClient,
    TitanJob,
)
from titan_sdk.dashboard import Dashboard, DashboardDag, DashboardJob
from titan_sdk.model.manifest import dashboard_manifest


@pytest.fixture
def board():
    with HttpDashboard() as served:
        yield served


@pytest.fixture(params=[TitanClient, BlockingAsyncClient], ids=["sync", "async"])
def connect(request, cluster):
    return lambda url: request.param(config=ClientConfig(cluster.host, cluster.port, dashboard_url=url))


@pytest.fixture
def jobs(tmp_path):
    tail = secrets.token_hex(4)

    def make(prefix, **options):
        prefix = f"{prefix}-{tail}"
        path = tmp_path / "job.py"
        path.write_text("pass")
        return [
            TitanJob(f"{prefix}-a", str(path), **options),
            TitanJob(f"{prefix}-b", str(path), parents=[f"{prefix}-a"], **options),
        ]

    make.tail = tail
    return make


def test_a_submit_reports_its_dag(board, connect, jobs):
    agent = f"run-{secrets.token_hex(4)}"
    with connect(board.url) as client:
        client.submit_dag("m1", jobs("m1"), agent_run_id=agent).wait(timeout=300)
        client.submit_dag("m2", jobs("m2"), agent_run_id=agent).wait(timeout=300)
        client.submit_dag("m2", jobs("m3"), agent_run_id=agent).wait(timeout=300)
    first, second, third = board.manifests
    assert first[f"DAG-m1-{jobs.tail}-a"] == {
        "dag": "m1",
        "deps": [],
        "run_ts": first[f"DAG-m1-{jobs.tail}-a"]["run_ts"],
        "agent_run_id": agent,
    }
    assert first[f"DAG-m1-{jobs.tail}-b"]["deps"] == [f"DAG-m1-{jobs.tail}-a"]
    assert first[f"DAG-m1-{jobs.tail}-a"]["run_ts"] > 1_700_000_000_000
    run = first[f"__agent_run__{agent}"]
    assert run["agent_run_id"] == agent
    assert run["stages"] == ["m1"]
    assert second[f"__agent_run__{agent}"]["stages"] == ["m1", "m2"]
    assert third[f"__agent_run__{agent}"]["stages"].count("m2") == 1


def test_plain_jobs_can_be_sent_again_by_the_dashboard_and_runtime_jobs_cannot(board, connect, jobs):
    with connect(board.url) as client:
        client.submit_dag("plain", jobs("plain", runtime=False)).wait(timeout=300)
        client.submit_dag("mixed", [*jobs("mixed")[:1]]).wait(timeout=300)
    plain, mixed = board.manifests
    one = f"plain-{jobs.tail}"
    line = f"{one}-b|RUN_PAYLOAD|job.py||cGFzcw==|GENERAL|1|0|[{one}-a]"
    assert plain["__payload__plain"] == {
        "dag_payload": f"{line} ; {one}-a|RUN_PAYLOAD|job.py||cGFzcw==|GENERAL|1|0|[]",
        "run_ts": plain[f"DAG-{one}-a"]["run_ts"],
    }
    assert plain[f"__job_payload__DAG-{one}-b"] == line.replace(f"[{one}-a]", "[]")
    assert list(mixed) == [f"DAG-mixed-{jobs.tail}-a"]


def test_an_agent_run_key_that_holds_something_else_is_begun_anew(board, connect, jobs):
    with connect(board.url) as client:
        client.store_put("titan:agent_run:odd", "no json")
        client.submit_dag("odd", jobs("odd1"), agent_run_id="odd").wait(timeout=300)
        client.store_put("titan:agent_run:odd", "{}")
        client.submit_dag("odd", jobs("odd2"), agent_run_id="odd").wait(timeout=300)
    assert [m["__agent_run__odd"]["stages"] for m in board.manifests] == [["odd"], ["odd"]]


@pytest.mark.parametrize("trouble", ["absent", "angry"])
def test_a_dashboard_in_trouble_never_fails_a_submit(board, connect, jobs, trouble, caplog):
    board.answers["POST /api/manifest/sync"] = (500, '{"error":"disk full"}')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = board.url if trouble == "angry" else f"http://127.0.0.1:{probe.getsockname()[1]}"
        with connect(url) as client, caplog.at_level(logging.WARNING, "titan_sdk.dashboard"):
            client.submit_dag(trouble, jobs(trouble)).wait(timeout=300)
    assert "the DAG was submitted, but the dashboard was not told of it" in caplog.text


def test_a_manifest_without_an_agent_run_names_none():
    manifest = dashboard_manifest("d", {"a": (), "b": ("DAG-a",)}, 5, replayable={"a": ("line", "alone")})
    assert manifest == {
        "DAG-a": {"dag": "d", "deps": [], "run_ts": 5},
        "DAG-b": {"dag": "d", "deps": ["DAG-a"], "run_ts": 5},
        "__job_payload__DAG-a": "alone",
    }


def test_dags_jobs_and_logs_are_read(board):
    board.answers["GET /api/dag_status"] = (
        200,
        '[{"id":"DAG-d","name":"d","status":"RUNNING","jobs":[{"id":"DAG-a","status":"WAITING","worker":null}]}]',
    )
    board.answers["GET /api/logs_raw/DAG-a"] = (200, "grüße\n")
    dashboard = Dashboard(board.url + "/")
    assert dashboard.dag_status() == [DashboardDag("d", "RUNNING", (DashboardJob("DAG-a", "WAITING"),))]
    assert dashboard.logs("a") == "grüße\n"
    assert repr(dashboard) == f"<Dashboard {board.url}>"


def test_jobs_and_dags_are_cancelled(board):
    board.answers["POST /api/job/DAG-a/cancel"] = (
        200,
        '{"status":"ok","job_id":"DAG-a","result":"CANCELLED"}',
    )
    board.answers["POST /api/dag/DAG-my%20dag/cancel"] = (
        200,
        '{"status":"ok","cancelled":["DAG-a"],"skipped":[]}',
    )
    dashboard = Dashboard(board.url)
    dashboard.cancel_job("a")
    assert dashboard.cancel_dag("my dag") == ["DAG-a"]
    with pytest.raises(NotFound, match="HTTP 404"):
        dashboard.cancel_job("gone")


def test_gates_are_listed_and_decided(board):
    pending = [
        {"job_id": "hitl-gate-a", "message": "ok?", "ts": 1500},
        {"job_id": "hitl-gate-b", "message": "", "ts": 0},
    ]
    board.answers["GET /api/hitl/pending"] = (200, json.dumps(pending))
    for verb in ("approve", "reject"):
        board.answers[f"POST /api/hitl/{verb}/hitl-gate-a"] = (200, '{"status":"ok"}')
    dashboard = Dashboard(board.url)
    assert dashboard.pending_approvals() == [
        PendingApproval("hitl-gate-a", "a", "ok?", 1.5),
        PendingApproval("hitl-gate-b", "b", "", None),
    ]
    dashboard.approve("a")
    dashboard.reject("DAG-hitl-gate-a")
    assert [path for path, _ in board.requests[1:]] == [
        "POST /api/hitl/approve/hitl-gate-a",
        "POST /api/hitl/reject/hitl-gate-a",
    ]


@pytest.mark.parametrize("body", ["<html>", "{}", '[{"id":1}]', "[3]", "7"])
def test_answers_of_another_server_are_told_apart(board, body):
    for path in ("/api/dag_status", "/api/hitl/pending"):
        board.answers[f"GET {path}"] = (200, body)
    dashboard = Dashboard(board.url)
    for call in (dashboard.dag_status, dashboard.pending_approvals):
        if body == "{}":
            assert call() == []
            continue
        with pytest.raises(PeerProtocolError, match="is not what Titan's dashboard answers"):
            call()


def test_what_goes_wrong_with_http_is_one_of_our_errors(board):
    board.answers["GET /api/dag_status"] = (502, '{"error":"master unreachable"}')
    with pytest.raises(RequestRefused, match=r"HTTP 502: .*master unreachable"):
        Dashboard(board.url).dag_status()
    with pytest.raises(InvalidArgument, match=r"is not a URL; write it as http://titan.example.org:5000"):
        Dashboard("titan:5000")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TimedOut, match=r"no answer within 0\.1 s"):
            Dashboard(url, timeout=0.1).dag_status()
    with pytest.raises(ConnectFailed, match="is Titan's dashboard running there"):
        Dashboard(url).dag_status()
