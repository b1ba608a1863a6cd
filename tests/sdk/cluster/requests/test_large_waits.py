"""WAIT for thousands of jobs: in steps, between which others are served, and not for any number of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Peer, frame, script
from titan_sdk.cluster.app import App
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.wire.extensions import MAX_WAIT_IDS, Wait, read_object
from titan_sdk.wire.opcodes import Opcode

NOBODY = tuple(f"DAG-{n}" for n in range(MAX_WAIT_IDS))


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    made = App(ClusterSettings(tmp_path, port=0), "0")
    yield made
    await made.stop()


class Client:
    """In the master's own loop, so that the order in which things happen can be told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> Client:
        return cls(*await asyncio.open_connection(*address))

    async def ask(self, opcode: int, text: str) -> str:
        self._writer.write(frame(opcode, text))
        head = await self._reader.readexactly(8)
        answer = await self._reader.readexactly(int.from_bytes(head[4:], "big"))
        self._writer.close()
        return answer.decode()


@pytest.mark.parametrize("every", [False, True])
async def test_another_client_is_answered_in_the_middle_of_it(
    app: App, monkeypatch: pytest.MonkeyPatch, every: bool
) -> None:
    address = await app.start()
    assert app._master is not None
    state = app._master.state
    begun, resolved = asyncio.Event(), state.resolved

    def noticed(job_id: str) -> str:
        begun.set()
        return resolved(job_id)

    monkeypatch.setattr(state, "resolved", noticed)
    one, other = await Client.connect(address), await Client.connect(address)
    waiting = asyncio.create_task(one.ask(Opcode.WAIT, Wait(NOBODY, 20.0, every).encode()))
    await begun.wait()
    assert await other.ask(Opcode.GET_JOB_STATUS, "nobody") == "NULL"
    assert not waiting.done()
    assert read_object(await waiting)["states"] == dict.fromkeys(NOBODY, "NULL")


@pytest.mark.parametrize("place", [0, len(NOBODY) - 1])
async def test_the_end_of_one_among_them_is_noticed(app: App, place: int) -> None:
    address = await app.start()
    peer = Peer(address)
    known = f"DAG-{place}"
    await asyncio.to_thread(peer.submit, script(known, "pass", delay=300))
    client = await Client.connect(address)
    states = read_object(await client.ask(Opcode.WAIT, Wait(NOBODY, 20.0).encode()))["states"]
    assert states[known] == "COMPLETED"
    assert app._master is not None
    assert not app._master.state.waiters._watches


async def test_more_than_that_are_refused(app: App) -> None:
    client = await Client.connect(await app.start())
    answer = await client.ask(Opcode.WAIT, Wait((*NOBODY, "DAG-x"), 0.0).encode())
    assert (
        answer
        == "ERROR: WAIT: it names 20,001 jobs; the limit is 20,000, so ask for them in several requests"
    )
