"""What a running master on Redis, and ``gc`` beside a stopped one, leave there of jobs that ended long ago."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.support.redis_server import RedisServer
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster.retention import collect
from titan_sdk.cluster.settings import ClusterSettings

# Slow: Jobs grow old by the clock.
pytestmark = pytest.mark.slow

PREFIX = "kept"
ALWAYS = {"lease", "epoch", "last", "format", "identity", "added", "jobs", "ended", "keys"}
"""Keys of the master itself, whatever it knows of."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path / "redis").start()
    yield made
    made.stop()


def names(server: RedisServer) -> set[str]:
    """Every key in the server, without the prefix."""
    words = server.say("KEYS", "*").decode().split("\r\n")
    found = {word for word in words if word and word[0] not in "*$"}
    assert all(word.startswith(PREFIX + ":") for word in found)
    # The last request of each client's channel is kept for a quarter of an hour, and expires by itself.
    kept = {word.partition(":")[2] for word in found}
    return {name for name in kept if not name.startswith("request:")}


def run_some(client: TitanClient, folder: Path) -> None:
    """DAGs, also of plain jobs, values with and without an end, and a job that keeps the newest number."""
    job = folder / "job.py"
    job.write_text("import titan_job; print('hi'); titan_job.result('x' * 1000)")
    dag = client.submit_dag("nightly", [TitanJob("a", str(job)), TitanJob("b", str(job), parents=["a"])])
    dag.wait(300)
    plain = folder / "plain.py"
    plain.write_text("print('hi')")
    client.submit_job(TitanJob("plain", str(plain), runtime=False)).wait(300)
    pair = [TitanJob(f"plain-{name}", str(plain), runtime=False) for name in "ab"]
    client.submit_dag("of:plain|jobs", pair).wait(300)
    client.store_put("for-ever", "kept")
    client.store_put("rewritten", "first")
    for key in ("short", "rewritten"):
        client.store_put(key, "lived")
        client.store_expire(key, 0.001)
    client.store_sadd("short-set", "member")
    client.store_expire("short-set", 0.001)
    # A write takes the expiry back.
    client.store_put("rewritten", "second")
    client.submit_job(TitanJob("last", str(job))).wait(300)


def until(condition: Any) -> None:
    pause = threading.Event()
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.02)


def test_a_running_master_forgets_what_is_too_old_and_expired(server: RedisServer, tmp_path: Path) -> None:
    settings = {"store": server.url, "store_prefix": PREFIX, "sweep_seconds": 0.05}
    master = MasterProcess(tmp_path / "data", keep_finished_seconds=0.5, **settings)
    peer = master.start()
    try:
        with TitanClient(*peer.address) as client:
            run_some(client, tmp_path)
            gone = ("a", "b", "plain", "plain-a", "plain-b")
            until(lambda: {peer.status(job) for job in gone} == {"NULL"})
            until(lambda: not [key for key in client.store_keys("titan:dag:") if "last" not in key])
            assert peer.status("last") == "COMPLETED"  # the newest number stays, however old it is
            assert client.job_handle("last").result() == "x" * 1000
            until(lambda: server.say("ZCARD", f"{PREFIX}:expiry") == b":0\r\n")
            assert client.store_get("rewritten") == "second"
            assert {"for-ever", "rewritten"} <= set(client.store_keys())
            assert not {"short", "short-set"} & set(client.store_keys())
            client.store_delete("for-ever")
            client.store_delete("rewritten")
        left = {name for name in names(server) - ALWAYS if "last" not in name}
        assert left == set()
        assert [path.name for path in (tmp_path / "data" / "logs").iterdir()] == ["DAG-last.log"]
    finally:
        assert master.stop() == 0


async def test_gc_does_the_same_for_a_master_that_does_not_run(server: RedisServer, tmp_path: Path) -> None:
    location: dict[str, Any] = {"store": server.url, "store_prefix": PREFIX}
    master = MasterProcess(tmp_path / "data", sweep_seconds=3600.0, **location)
    peer = master.start()

    def work() -> None:
        with TitanClient(*peer.address) as client:
            run_some(client, tmp_path)

    await asyncio.to_thread(work)
    assert master.stop() == 0
    settings = ClusterSettings(tmp_path / "data", **location)
    # Values that expired are gone by themselves; what is left of them is their names in an index.
    planned = await collect(settings, time.time(), dry_run=True)
    assert (planned.jobs, planned.keys) == (5, 2)
    done = await collect(settings, time.time())
    assert (done.jobs, done.keys) == (5, 2)
    assert (await collect(settings, time.time())).jobs == 0
    kept = {"value:for-ever", "value:rewritten"}
    assert {name for name in names(server) - ALWAYS if "last" not in name} <= kept | {"lines", "expiry"}
    again = MasterProcess(tmp_path / "data", **location)
    peer = again.start()
    assert [peer.status(job) for job in ("a", "last")] == ["NULL", "COMPLETED"]
    assert again.stop() == 0
