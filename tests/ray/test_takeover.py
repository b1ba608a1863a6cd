"""A front that loses its lease on the store has lost its Ray runs, too, and leaves them as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ray.asking import history
from tests.ray.counting import counted, runs
from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting, Peer, script
from tests.sdk.cluster.store.opening import opened
from tests.support.ray_nodes import RayNodes
from tests.support.redis_server import RedisServer
from titan_sdk.cluster.store.redis.location import Location

# Ray's processes take long to start on a busy machine.
# Slow: Ray's own processes take seconds to start.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

LEASE = 1.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


class Fronts:
    """An old one and the one that follows it elsewhere; stopped in any other way, either would end its runs."""

    def __init__(self, folder: Path, ray: str, store: str) -> None:
        settings: dict[str, Any] = {"store": store, "store_lease_seconds": LEASE}
        stops = {"address": ray, "keep_jobs": False, "prefetch": 0, "connect_seconds": 600.0}
        self.old, self.new = (MasterProcess(folder / name, stops, **settings) for name in ("old", "new"))
        self._errors = folder / "errors"

    def begin(self) -> Peer:
        with self._errors.open("wb") as errors:
            return self.old.start(errors)

    def old_gives_up(self) -> None:
        """It goes on, finds that its lease is another's, and ends by itself."""
        self.old.go_on()
        assert self.old.ended() == 1
        said = self._errors.read_text()
        assert "has taken over" in said
        assert "this master has stopped, and left what ran to the other one" in said

    def close(self) -> None:
        if self.old.is_up:
            self.old.kill()
        self.new.close()


@pytest.fixture
def fronts(nodes: RayNodes, redis: RedisServer, tmp_path: Path) -> Iterator[Fronts]:
    made = Fronts(tmp_path, nodes.address, redis.url)
    yield made
    made.close()


def submit_all(peer: Peer, meeting: Meeting, folder: Path) -> None:
    """One that runs, one that waits for it, and one that waits for its place."""
    peer.submit(
        script("runs", counted(folder, "runs", meeting.code("up") + "print('end')"), tag="HIGH_MEM"),
        script("child", counted(folder, "child", ""), parents=["runs"]),
        script("queued", counted(folder, "queued", ""), tag="HIGH_MEM"),
    )
    meeting.arrival()


def check_all(peer: Peer, folder: Path) -> None:
    for job in ("runs", "child", "queued"):
        assert peer.until(job) == "COMPLETED"
        assert runs(folder, job) == 1
    assert peer.log("runs") == "end\n"
    assert any("taken over" in text for text in history(peer, "runs"))


def test_runs_go_on_under_the_front_that_took_the_lease(
    fronts: Fronts, meeting: Meeting, tmp_path: Path
) -> None:
    submit_all(fronts.begin(), meeting, tmp_path)
    fronts.old.pause()
    peer = fronts.new.start()  # waits until the lease has run out
    fronts.old_gives_up()
    assert peer.until("runs", "RUNNING") == "RUNNING"  # its node tells the new front, too
    meeting.let_go()
    check_all(peer, tmp_path)


def test_what_ends_while_no_front_may_decide_is_the_next_ones_to_follow_up(
    fronts: Fronts, redis: RedisServer, meeting: Meeting, tmp_path: Path
) -> None:
    """The old one still has the Ray cluster when it learns that it has lost the store."""
    submit_all(fronts.begin(), meeting, tmp_path)
    fronts.old.pause()

    async def take_the_lease() -> None:
        async with opened(Location(redis.url, lease_seconds=LEASE)):
            meeting.let_go()  # the old one is told of the end, too
            await asyncio.to_thread(fronts.old_gives_up)

    asyncio.run(take_the_lease())
    assert (runs(tmp_path, "child"), runs(tmp_path, "queued")) == (0, 0)
    check_all(fronts.new.start(), tmp_path)
