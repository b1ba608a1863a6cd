"""Metrics, the health check, logs for programs, and an end that lets jobs finish."""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Meeting, Peer, script
from titan_sdk.cli.logformat import JsonFormatter, LogFormat, configure_logging
from titan_sdk.cluster.app import App
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.errors import InvalidArgument, TitanError
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    settings = ClusterSettings(tmp_path, port=0, workers={"GENERAL": 1}, metrics_port=0, drain_seconds=30.0)
    made = App(settings, "0")
    yield made
    await made.stop()


async def get(app: App, path: str) -> tuple[int, str]:
    assert app.metrics_address is not None
    url = "http://{}:{}{}".format(*app.metrics_address, path)

    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=60) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    return await asyncio.to_thread(ask)


async def test_metrics_count_jobs_slots_and_requests(app: App) -> None:
    pytest.importorskip("prometheus_client")
    peer = Peer(await app.start())
    assert (await asyncio.to_thread(peer.submit, script("DAG-ok", "pass"))).ok
    assert (await asyncio.to_thread(peer.submit, script("DAG-wait", "pass", tag="NOPE"))).ok
    assert await asyncio.to_thread(peer.until, "DAG-ok") == "COMPLETED"
    status, text = await get(app, "/metrics")
    assert status == 200
    for line in (
        'titan_jobs_ended_total{status="COMPLETED"} 1.0',
        "titan_jobs_unfinished 1.0",
        'titan_jobs_queued{tag="NOPE"} 1.0',
        'titan_slots{tag="GENERAL"} 1.0',
        'titan_slots_busy{tag="GENERAL"} 0.0',
        'titan_requests_total{operation="SUBMIT_DAG"} 2.0',
        "titan_peers_dropped_total 0.0",
    ):
        assert line in text.splitlines(), text
    assert "DAG-" not in text


async def test_health_tells_serving_from_draining(app: App, meeting: Meeting) -> None:
    pytest.importorskip("prometheus_client")
    peer = Peer(await app.start())
    assert await get(app, "/health") == (200, '{"status": "ok"}')
    assert (await get(app, "/else"))[0] == 404
    assert (await asyncio.to_thread(peer.submit, script("DAG-runs", meeting.code("up")))).ok
    await asyncio.to_thread(meeting.arrival)
    assert (await asyncio.to_thread(peer.submit, script("DAG-next", "pass"))).ok
    draining = asyncio.create_task(app.drain())
    await asyncio.sleep(0)
    assert await get(app, "/health") == (503, '{"status": "draining"}')
    refused = await asyncio.to_thread(peer.submit, script("DAG-late", "pass"))
    assert "is shutting down and takes no more jobs" in refused.text
    assert not draining.done()
    meeting.let_go()
    await draining
    assert await asyncio.to_thread(peer.status, "DAG-runs") == "COMPLETED"
    assert await asyncio.to_thread(peer.status, "DAG-next") == "PENDING"


async def test_draining_ends_after_its_time(tmp_path: Path, meeting: Meeting) -> None:
    app = App(ClusterSettings(tmp_path, port=0, drain_seconds=0.05), "0")
    peer = Peer(await app.start())
    assert (await asyncio.to_thread(peer.submit, script("DAG-long", meeting.code("up")))).ok
    await asyncio.to_thread(meeting.arrival)
    await app.drain()
    assert await asyncio.to_thread(peer.ask, Opcode.GET_JOB_STATUS, "DAG-long")
    await app.stop()
    again = App(ClusterSettings(tmp_path, port=0, workers={"OTHER": 1}), "0")
    peer = Peer(await again.start())
    assert await asyncio.to_thread(peer.status, "DAG-long") == "PENDING"
    await again.stop()


async def test_a_missing_package_and_a_taken_port_are_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("prometheus_client")
    first = App(ClusterSettings(tmp_path / "a", port=0, metrics_port=0), "0")
    await first.start()
    assert first.metrics_address is not None
    taken = ClusterSettings(tmp_path / "b", port=0, metrics_port=first.metrics_address[1])
    with pytest.raises(TitanError, match=r"cannot serve metrics on .*; give another metrics port"):
        await App(taken, "0").start()
    await first.stop()
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.split(".")[0] == "prometheus_client":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    for module in [name for name in sys.modules if name.startswith("prometheus_client")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(InvalidArgument, match=r"pip install prometheus-client"):
        await App(ClusterSettings(tmp_path / "c", port=0, metrics_port=0), "0").start()


def test_log_lines_for_programs_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("titan_sdk")
    before = (logger.handlers, logger.level)
    try:
        configure_logging(LogFormat.JSON, "info")
        logging.getLogger("titan_sdk.cluster.master.state").info(
            "job %s ended", "x", extra={"job": "x", "exit_code": 3}
        )
        entry = json.loads(capsys.readouterr().err)
    finally:
        logger.handlers, logger.level = before
    assert (entry["level"], entry["logger"], entry["message"]) == (
        "info",
        "titan_sdk.cluster.master.state",
        "job x ended",
    )
    assert (entry["job"], entry["exit_code"]) == ("x", 3)
    assert entry["time"].endswith("Z")
    with pytest.raises(InvalidArgument, match="is none of debug"):
        configure_logging(LogFormat.TEXT, "loud")


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("titan_sdk", logging.ERROR, "f", 1, "failed", None, sys.exc_info())
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert "ValueError: broken" in json.loads(text)["exception"]
