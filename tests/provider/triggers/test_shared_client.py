from __future__ import annotations

import asyncio
import logging

import pytest

from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.triggers import shared_client as module
from titan_provider.triggers.shared_client import MAX_CONNECTIONS, shared_client
from titan_sdk import AsyncTitanClient, ClientConfig, ConnectFailed, JobStatus

CONFIG = ClientConfig(host="127.0.0.1", port=1)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PROBE", 0.01)
    monkeypatch.setattr(module, "_LAST_PROBE", 0.05)


class Master:
    """What a master answers: nothing while it is down. Counts what it is asked."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.requests = 0
        self.open = 0
        self.most_open = 0
        self._milestones: dict[int, asyncio.Event] = {}

    async def asked(self, times: int) -> None:
        """Return when it has been asked so often."""
        await asyncio.wait_for(self._milestones.setdefault(times, asyncio.Event()).wait(), 20)

    async def status(self, client: AsyncTitanClient) -> JobStatus:
        self.requests += 1
        self._milestones.setdefault(self.requests, asyncio.Event()).set()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(0)
            if not self.up.is_set():
                raise ConnectFailed("cannot connect to 127.0.0.1:1")
            return JobStatus.RUNNING
        finally:
            self.open -= 1


async def test_triggers_on_one_master_share_it() -> None:
    async with (
        shared_client(CONFIG) as one,
        shared_client(CONFIG) as two,
        shared_client(ClientConfig(port=2)) as other,
    ):
        assert one is two
        assert one is not other
    async with shared_client(CONFIG) as later:
        assert later is not one


async def test_connections_are_bounded_however_many_triggers_wait() -> None:
    master = Master()
    master.up.set()
    async with shared_client(CONFIG) as shared:
        await asyncio.gather(*(shared.ask(master.status, 5) for _ in range(500)))
    assert master.requests == 500
    assert master.most_open == MAX_CONNECTIONS


async def test_what_is_asked_once_shares_the_connections_and_is_not_repeated() -> None:
    master = Master()
    async with shared_client(CONFIG) as shared:
        with pytest.raises(ConnectFailed):
            await shared.once(master.status)
        assert master.requests == 1
        master.up.set()
        await asyncio.gather(*(shared.once(master.status) for _ in range(500)))
    assert master.most_open == MAX_CONNECTIONS


async def test_an_outage_is_probed_by_one_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    master = Master()
    with caplog.at_level(logging.WARNING):
        async with shared_client(CONFIG) as shared:
            waiting = [asyncio.create_task(shared.ask(master.status, 30)) for _ in range(200)]
            await master.asked(MAX_CONNECTIONS + 5)
            during = master.requests
            assert during < 2 * MAX_CONNECTIONS
            master.up.set()
            assert set(await asyncio.gather(*waiting)) == {JobStatus.RUNNING}
    texts = [record.getMessage() for record in caplog.records]
    assert sum("does not answer" in text for text in texts) == 1
    assert sum("answers again" in text for text in texts) == 1


async def test_everybody_gives_up_when_their_patience_is_over() -> None:
    master = Master()
    async with shared_client(CONFIG) as shared:
        asked = [shared.ask(master.status, 0.2) for _ in range(50)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TitanMasterUnreachable}
    assert "has not answered for 0.2 s; the job may still be running" in str(outcomes[0])


async def test_a_probing_trigger_that_is_cancelled_hands_over() -> None:
    master = Master()
    async with shared_client(CONFIG) as shared:
        first = asyncio.create_task(shared.ask(master.status, 30))
        await master.asked(2)
        second = asyncio.create_task(shared.ask(master.status, 30))
        await asyncio.sleep(0)
        first.cancel()
        master.up.set()
        assert await second is JobStatus.RUNNING


async def test_what_is_no_transport_error_is_the_callers() -> None:
    async def broken(_: AsyncTitanClient) -> None:
        raise ValueError("mine")

    async with shared_client(CONFIG) as shared:
        with pytest.raises(ValueError, match="mine"):
            await shared.ask(broken, 5)
