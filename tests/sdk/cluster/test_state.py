"""Which lines of jobs a master has in memory, seen in a real node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Peer, script
from titan_sdk.cluster.admission import read_dag
from titan_sdk.cluster.bulk import LARGE_JOBS
from titan_sdk.cluster.master import Master
from titan_sdk.cluster.node import Node
from titan_sdk.cluster.settings import ClusterSettings

FEW, MANY = 3, LARGE_JOBS + 1


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[Master]:
    node = Node(ClusterSettings(tmp_path, port=0), "0")
    address = await node.start()
    peer = Peer(address)
    assert (await asyncio.to_thread(peer.submit, script("DAG-failed", "raise SystemExit(1)"))).ok
    await asyncio.to_thread(peer.until, "DAG-failed", "DEAD")
    assert node._master is not None
    yield node._master
    await node.stop()


async def submit(master: Master, lines: Sequence[str]) -> None:
    await master.submit(read_dag(" ; ".join(lines)))
    await master.flushed()


@pytest.mark.parametrize("jobs", [FEW, MANY])
async def test_those_of_jobs_that_wait_stay_until_they_start_or_end(master: Master, jobs: int) -> None:
    state = master.state
    await submit(master, [script(f"DAG-{n}", "pass", tag="NOPE") for n in range(jobs)])
    assert len(state._at_hand) == jobs
    assert not state._queueing
    waiting = [state.scheduler.get(f"DAG-{n}") for n in range(jobs)]
    for job in waiting:
        assert job is not None
        first = state.line(job)
        assert state.line(job) == first, "the second run gets another line than the first"
    assert not state._at_hand
    await submit(master, [script(f"DAG-more-{n}", "pass", tag="NOPE") for n in range(jobs)])
    for n in range(jobs):
        assert await master.cancel(f"DAG-more-{n}")
    assert not state._at_hand


@pytest.mark.parametrize("jobs", [FEW, MANY])
async def test_those_of_jobs_that_end_as_they_are_submitted_do_not_stay(master: Master, jobs: int) -> None:
    await submit(master, [script(f"DAG-{n}", "pass", parents=["DAG-failed"]) for n in range(jobs)])
    assert master.state.status("DAG-0") == "DEAD"
    assert not master.state._at_hand
    assert not master.state._queueing


@pytest.mark.parametrize("jobs", [FEW, MANY])
async def test_those_of_delayed_jobs_do_not_take_the_room_of_others(master: Master, jobs: int) -> None:
    await submit(master, [script(f"DAG-{n}", "pass", delay=10**8) for n in range(jobs)])
    assert master.state.scheduler.delayed == jobs
    assert not master.state._at_hand
    assert not master.state._queueing


async def test_that_of_a_job_that_starts_at_once_is_not_read_back(master: Master) -> None:
    statements: list[str] = []
    db = master.state.store.db  # type: ignore[attr-defined]
    db.set_trace_callback(statements.append)
    await submit(master, [script("DAG-now", "pass #" + "x" * 10_000)])
    db.set_trace_callback(None)
    assert any(text.startswith("INSERT INTO payloads") for text in statements)
    assert not any(text.startswith("SELECT line") for text in statements)
    assert not master.state._at_hand
    assert not master.state._queueing


@pytest.mark.parametrize("jobs", [FEW, MANY])
async def test_an_old_log_that_cannot_be_removed_is_told_and_stops_nothing(
    master: Master, jobs: int, caplog: pytest.LogCaptureFixture
) -> None:
    master.data.log_file("DAG-0").mkdir()
    await submit(master, [script(f"DAG-{n}", "pass", tag="NOBODY") for n in range(jobs)])
    assert "the log of the last run of DAG-0 cannot be removed" in caplog.text
    assert len(master.state.scheduler) == jobs
    assert not master.state._queueing
