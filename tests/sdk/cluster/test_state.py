"""A submission and the log of the id's last run, seen in a real node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Peer, script
from titan_sdk.cluster.app import App
from titan_sdk.cluster.master.admission import LARGE_JOBS, read_dag
from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.settings import ClusterSettings


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[Master]:
    app = App(ClusterSettings(tmp_path, port=0), "0")
    address = await app.start()
    peer = Peer(address)
    assert (await asyncio.to_thread(peer.submit, script("DAG-failed", "raise SystemExit(1)"))).ok
    await asyncio.to_thread(peer.until, "DAG-failed", "DEAD")
    assert app._master is not None
    yield app._master
    await app.stop()


@pytest.mark.parametrize("jobs", [3, LARGE_JOBS + 1])
async def test_an_old_log_that_cannot_be_removed_is_told_and_stops_nothing(
    master: Master, jobs: int, caplog: pytest.LogCaptureFixture
) -> None:
    master.data.log_file("DAG-0").mkdir()
    lines = [script(f"DAG-{n}", "pass", tag="NOBODY") for n in range(jobs)]
    await master.submit(read_dag(" ; ".join(lines)), {})
    assert "the log of the last run of DAG-0 cannot be removed" in caplog.text
    assert len(master.state.scheduler) == jobs
