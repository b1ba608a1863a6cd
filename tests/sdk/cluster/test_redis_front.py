"""A master whose state is in Redis is killed, replaced elsewhere, and robbed of its lease; its Redis is killed too."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.load import Load
from tests.crash.test_kills import check
from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting, script
from tests.support.redis_server import RedisServer
from titan_sdk import StoreUnavailable, TitanClient, TitanJob

# Slow: Each test kills a master or its Redis and starts the next one.
pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path / "redis").start()
    yield made
    made.stop()


@pytest.fixture
def settings(server: RedisServer, tmp_path: Path) -> dict[str, Any]:
    return {
        "store": server.url,
        "store_prefix": uuid.uuid4().hex,
        "store_lease_seconds": 0.5,
        "artifacts": f"file://{tmp_path}/artifacts",
    }


def test_under_load_each_killed_master_is_replaced_elsewhere_and_nothing_is_lost(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Another folder, another port, four times; audited by what the jobs themselves have written."""
    seed = random.SystemRandom().randrange(1, 10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    audit = tmp_path / "audit"
    audit.touch()
    master = MasterProcess(tmp_path / "data0", **settings)
    load = Load(random.Random(chance.random()), audit)
    load.peer = master.start()
    load.start()
    pause = threading.Event()
    try:
        assert load.under_way.wait(300)
        for number in range(1, 5):
            pause.wait(chance.uniform(0.1, 0.6))
            master.kill()
            master = MasterProcess(tmp_path / f"data{number}", **settings)
            load.peer = master.start()
        load.stop()
        load.settle()
        # A job of this engine writes its log where it runs.
        check(load, audit, logs=False)
    finally:
        load.stop()
        master.close()


def test_a_redis_that_is_killed_under_load_loses_nothing(
    settings: dict[str, Any], server: RedisServer, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(1, 10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    audit = tmp_path / "audit"
    audit.touch()
    master = MasterProcess(tmp_path / "data", **settings)
    load = Load(random.Random(chance.random()), audit, excuse="the store redis://")
    load.peer = master.start()
    load.start()
    pause = threading.Event()
    try:
        for kills in range(1, 4):
            while len(load.values) < kills or len(load.good) < kills:
                pause.wait(0.01)
            pause.wait(chance.uniform(0.0, 0.3))
            server.kill()
            pause.wait(chance.uniform(0.0, 0.3))
            server.start()
        load.stop()
        load.settle()
        # What has ended is told from memory; the master may not have tried the server again yet.
        while "the store redis://" in load.peer.ask(0x60, "back|again").text:
            pause.wait(0.01)
        check(load, audit)
    finally:
        load.stop()
        master.close()


def test_a_running_job_is_watched_to_its_end_by_a_master_elsewhere(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    meeting = Meeting()
    first, second = (MasterProcess(tmp_path / name, **settings) for name in ("first", "second"))
    audit = tmp_path / "audit"
    mark = f"open({str(audit)!r}, 'a').write('ran\\n')\n"
    try:
        peer = first.start()
        peer.submit(
            script("long", mark + meeting.code("up")),
            script("child", "pass", parents=["long"]),
        )
        meeting.arrival()
        first.kill()
        peer = second.start()
        assert peer.status("long") == "RUNNING"
        meeting.let_go()
        assert peer.until("child") == "COMPLETED"
        assert Counter(audit.read_text().split()) == {"ran": 1}
    finally:
        meeting.close()
        second.close()


def test_who_lost_the_lease_stops_with_a_sentence_and_leaves_its_jobs_alone(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    meeting = Meeting()
    old, new = (MasterProcess(tmp_path / name, **settings) for name in ("old", "new"))
    said = tmp_path / "said"
    try:
        with said.open("wb") as errors:
            old.start(errors).submit(script("job", meeting.code("up")))
        meeting.arrival()
        old.pause()
        peer = new.start()
        old.go_on()
        assert old.ended() == 1
        assert "has taken over" in said.read_text()
        assert "this master has stopped, and left what ran to the other one" in said.read_text()
        assert peer.status("job") == "RUNNING"
        meeting.let_go()
        assert peer.until("job") == "COMPLETED"
    finally:
        meeting.close()
        if old.is_up:
            old.kill()
        new.close()


def test_while_its_redis_is_away_nothing_that_is_read_is_an_error_in_disguise(
    settings: dict[str, Any], server: RedisServer, tmp_path: Path
) -> None:
    master = MasterProcess(tmp_path / "data", **settings)
    try:
        with TitanClient(*master.start().address) as client:
            client.store_put("k", "v")
            client.store_sadd("s", "a")
            done = client.submit_job(TitanJob("done", _job(tmp_path)))
            assert done.wait(300).result == 7
            server.kill()
            requests: list[Callable[[], object]] = [
                lambda: client.store_get("k"),
                lambda: client.store_put("k", "w"),
                lambda: client.store_smembers("s"),
                lambda: client.store_sadd("s", "b"),
                lambda: client.store_keys(),
                lambda: client.find_dag("done"),
                lambda: client.job_report("done"),
                done.status,
            ]
            for request in requests:
                with pytest.raises(
                    StoreUnavailable, match=r"does not answer now: the store redis://.*try again"
                ):
                    request()
            assert client.get_job_status("done") == "COMPLETED"
            server.start()
            _until_answered(lambda: client.store_put("k", "w"))
            assert (client.store_get("k"), client.store_smembers("s")) == ("w", ["a"])
            assert client.job_report("done").result == 7
    finally:
        master.close()


def test_a_redis_that_lost_acknowledged_commits_stops_the_master_until_somebody_decides(
    settings: dict[str, Any], server: RedisServer, tmp_path: Path
) -> None:
    master = MasterProcess(tmp_path / "data", **settings)
    said = [tmp_path / "first", tmp_path / "second"]
    with said[0].open("wb") as errors:
        peer = master.start(errors)
        peer.submit(script("kept", "pass"), script("waits", "pass", tag="NOBODY"))
        peer.until("kept")
        with server.losing():
            for number in range(20):
                assert peer.ask(0x60, f"k|{number}").ok
        assert master.ended() == 1
    assert "has lost commits" in said[0].read_text()
    with said[1].open("wb") as errors, pytest.raises(ValueError):
        master.start(errors)
    assert master.ended() == 1
    assert "start with --accept-lost-commits to go on with what it has" in said[1].read_text()
    decided = MasterProcess(tmp_path / "data", accept_lost_commits=True, **settings)
    try:
        peer = decided.start()
        assert (peer.status("kept"), peer.status("waits")) == ("COMPLETED", "PENDING")
        assert peer.ask(0x60, "k|again").ok
    finally:
        decided.close()


def _job(folder: Path) -> str:
    path = folder / "job.py"
    path.write_text("import titan_job; titan_job.result(7)")
    return str(path)


def _until_answered(request: Callable[[], object]) -> None:
    """The master tries its store again once a second."""
    pause, deadline = threading.Event(), time.monotonic() + 30
    while True:
        try:
            request()
        except StoreUnavailable:
            assert time.monotonic() < deadline
            pause.wait(0.05)
        else:
            return
