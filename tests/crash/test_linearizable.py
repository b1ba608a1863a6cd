"""Eight clients, connections that are cut, a master that is killed: what they see of a key is still one order of events.

`make crash` looks at 1,000 histories, the suite at a few. The seed is printed; TITAN_CRASH_SEED takes it again.
"""

from __future__ import annotations

import os
import random
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.crash.histories import record, wrong_keys
from tests.crash.test_kills import SEED
from tests.sdk.cluster.master_process import MasterProcess
from tests.support.blocking_async import BlockingAsyncClient
from tests.support.flaky_proxy import FlakyProxy
from titan_sdk import TitanClient
from titan_sdk.retry import Attempts

# Slow: Masters are killed and started again, many times.
pytestmark = pytest.mark.slow

HISTORIES = int(os.environ.get("TITAN_CRASH_HISTORIES", "20"))
CLIENTS = 8
CUT = 0.02
"""How many pieces of requests and replies end their connection instead of arriving."""


class Killer:
    """Kills the master at random moments and starts the next one, until it is told to stop."""

    def __init__(self, master: MasterProcess, proxy: FlakyProxy, chance: random.Random) -> None:
        self._master, self._proxy, self._chance = master, proxy, chance
        self.kills = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._chance.uniform(0.2, 3.0)):
            self._master.kill()
            self._proxy.target = self._master.start().address
            self.kills += 1


@contextmanager
def clients(port: int) -> Iterator[list[TitanClient]]:
    with ExitStack() as stack:
        kinds = [TitanClient, BlockingAsyncClient] * (CLIENTS // 2)
        yield [stack.enter_context(kind("127.0.0.1", port)) for kind in kinds]


@pytest.mark.timeout(300 + 2 * HISTORIES)
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_every_history_has_an_order(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    chance, cutting = random.Random(SEED), random.Random(SEED + 1)
    settings = {}
    if store == "redis":
        url = request.getfixturevalue("redis_server").url
        settings = {"store": url, "store_prefix": uuid.uuid4().hex, "store_lease_seconds": 0.3}
    master = MasterProcess(tmp_path / "data", **settings)
    doubts = events = 0
    try:
        with (
            FlakyProxy(*master.start().address) as proxy,
            clients(proxy.port) as eight,
            ThreadPoolExecutor(CLIENTS) as threads,
        ):
            proxy.cut = lambda: cutting.random() < CUT
            with Killer(master, proxy, random.Random(chance.random())) as killer:
                for number in range(HISTORIES):
                    recorders = record(eight, threads, chance)
                    events += sum(len(recorder.events) for recorder in recorders)
                    doubts += sum(recorder.doubts for recorder in recorders)
                    wrong = wrong_keys(recorders)
                    assert not wrong, f"seed {SEED}, history {number}: {wrong}"
            print(
                f"seed {SEED}: {HISTORIES} histories, {events} requests, {proxy.broken} connections cut, "
                f"{killer.kills} kills, {doubts} requests in doubt"
            )
            assert proxy.broken
    finally:
        master.close()


def test_blind_repetition_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The load and the checker together: with what the client did before, some history has no order."""

    def without_id(self: Attempts[object]) -> tuple[int, bytes]:
        object.__setattr__(self.call, "repeatable", True)
        self._is_sent = True
        return self.call.opcode, self.call.encoded()

    monkeypatch.setattr(Attempts, "next", without_id)
    chance, cutting = random.Random(SEED), random.Random(SEED + 1)
    master = MasterProcess(tmp_path / "data")
    try:
        with (
            FlakyProxy(*master.start().address) as proxy,
            clients(proxy.port) as eight,
            ThreadPoolExecutor(CLIENTS) as threads,
        ):
            proxy.cut = lambda: cutting.random() < 5 * CUT
            assert any(wrong_keys(record(eight, threads, chance)) for _ in range(1000))
    finally:
        master.close()
