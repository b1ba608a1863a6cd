"""A master whose disk is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Peer, script
from titan_sdk.cluster.node import Node
from titan_sdk.cluster.settings import ClusterSettings


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(ClusterSettings(tmp_path, port=0), "0")
    yield made
    await made.stop()


async def test_a_full_disk_refuses_jobs_and_values_and_loses_nothing(node: Node, tmp_path: Path) -> None:
    peer = Peer(await node.start())

    async def ask(opcode: int, text: str) -> str:
        return (await asyncio.to_thread(peer.ask, opcode, text)).text

    assert node._master is not None
    db = node._master.state.store.db
    assert await ask(0x60, "small|value") == "OK"
    db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0]}")
    big = "x" * 300_000
    assert (await ask(0x60, f"key|{big}")).startswith("SERVER_ERROR: the master's store does not do this")
    reply = await ask(0x04, script("job", f"open('{tmp_path}/ran', 'w') # {big}"))
    assert reply.startswith("ERROR: the jobs could not be stored (")
    assert "nothing was queued" in reply
    assert await ask(0x55, "job") == "NULL"
    assert await ask(0x61, "key") == "NULL"
    assert await ask(0x61, "small") == "value"
    db.execute("PRAGMA max_page_count=1000000")
    assert await ask(0x60, f"key|{big}") == "OK"
    assert await ask(0x04, script("job", "pass")) == "DAG_ACCEPTED"
    assert not (tmp_path / "ran").exists()


async def test_a_job_that_was_acknowledged_as_the_database_became_full_runs_when_there_is_room(
    node: Node, tmp_path: Path
) -> None:
    peer = Peer(await node.start())
    assert node._master is not None
    db = node._master.state.store.db  # type: ignore[attr-defined]
    db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0]}")
    code = f"open('{tmp_path}/ran', 'a').write('once') # {'x' * 300_000}"
    assert (await asyncio.to_thread(peer.submit, script("first", code))).text == "DAG_ACCEPTED"
    # Once that is known the next one is told; the first waits at its gate.
    assert not (await asyncio.to_thread(peer.ask, 0x60, "key|" + "x" * 300_000)).ok
    reply = await asyncio.to_thread(peer.submit, script("second", code))
    assert reply.text.startswith("ERROR: the jobs could not be stored (")
    assert not (tmp_path / "ran").exists()
    db.execute("PRAGMA max_page_count=1000000")
    assert await asyncio.to_thread(peer.until, "first") == "COMPLETED"
    assert (tmp_path / "ran").read_text() == "once"
    assert (await asyncio.to_thread(peer.ask, 0x55, "second")).text == "NULL"
