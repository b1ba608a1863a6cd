"""What a front keeps in Redis of jobs that ended long ago: their logs are there, too, and go with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer, script
from tests.sdk.cluster.test_redis_housekeeping import ALWAYS, PREFIX, names, run_some, until
from tests.support.ray_nodes import RayNodes
from tests.support.redis_server import RedisServer
from titan_sdk import TitanClient

# Ray's processes take long to start on a busy machine.
# Slow: Ray's own processes take seconds to start.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

GONE = ("a", "b", "plain", "plain-a", "plain-b", "retried", "cancelled")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


def fill(peer: Peer, folder: Path) -> None:
    """Jobs with results, with logs of one and of several runs, without any."""
    peer.submit(script("retried", "print('again'); raise SystemExit(3)"), script("cancelled", "", tag="NONE"))
    assert peer.until("retried") == "DEAD"
    assert peer.cancel("cancelled") == "CANCELLED"
    with TitanClient(*peer.address) as client:
        run_some(client, folder)
        for key in ("for-ever", "rewritten"):
            client.store_delete(key)


def test_a_running_front_forgets_jobs_with_their_logs_and_results(
    nodes: RayNodes, redis: RedisServer, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"store": redis.url, "store_prefix": PREFIX}
    first = MasterProcess(tmp_path / "first", nodes.address, sweep_seconds=3600.0, **settings)
    fill(first.start(), tmp_path)
    assert first.stop() == 0
    kinds = Counter(name.partition(":")[0] for name in names(redis) - ALWAYS)
    assert (kinds["log"], kinds["logmarks"], kinds["history"]) == (7, 7, 8)
    second = MasterProcess(
        tmp_path / "second", nodes.address, keep_finished_seconds=0.1, sweep_seconds=0.05, **settings
    )
    peer = second.start()
    try:
        until(lambda: {peer.status(job) for job in GONE} == {"NULL"})
        until(lambda: redis.say("ZCARD", f"{PREFIX}:expiry") == b":0\r\n")
        # The newest number stays, and all that it left: nothing else of any kind.
        until(lambda: all("last" in name for name in names(redis) - ALWAYS))
        assert peer.log("DAG-last") == "hi\n"
        with TitanClient(*peer.address) as client:
            assert client.job_handle("last").result() == "x" * 1000
    finally:
        assert second.stop() == 0
    assert {name for name in names(redis) if name.partition(":")[0] in {"log", "logmarks", "history"}} == {
        f"{kind}:DAG-last" for kind in ("log", "logmarks", "history")
    }
