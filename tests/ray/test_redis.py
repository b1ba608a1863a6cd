"""Ray runs the jobs and Redis keeps the state: a front is nothing that could be lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.asking import history, info
from tests.ray.counting import counted, runs
from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting, script
from tests.support.ray_nodes import RayNodes
from tests.support.redis_server import RedisServer
from titan_sdk import TitanClient, TitanJob

# Ray's processes take long to start on a busy machine.
# Slow: Ray's own processes take seconds to start.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


def test_another_front_elsewhere_goes_on_where_a_killed_one_was(
    nodes: RayNodes, redis: RedisServer, meeting: Meeting, tmp_path: Path
) -> None:
    settings = {"store": redis.url, "store_lease_seconds": 2.0}
    first = MasterProcess(tmp_path / "here", nodes.address, **settings)
    peer = first.start()
    code = tmp_path / "job.py"
    go_on = "print('before', flush=True)\n" + meeting.code("begun") + "print('after')\n"
    code.write_text(
        counted(tmp_path, "job", go_on + "import titan_job\ntitan_job.result('found the new front')\n")
    )
    with TitanClient(*peer.address) as client:
        client.submit_job(TitanJob("job", str(code)))
    meeting.arrival()
    first.kill()
    second = MasterProcess(tmp_path / "elsewhere", nodes.address, **settings)
    peer = second.start()  # on another port, too
    try:
        meeting.let_go()
        with TitanClient(*peer.address) as client:
            report = client.job_handle("job").wait(timeout=300)
        assert (report.result, runs(tmp_path, "job")) == ("found the new front", 1)
        assert peer.log("DAG-job").splitlines() == ["before", "after"]
        assert any("taken over" in text for text in history(peer, "DAG-job"))
    finally:
        second.close()


def test_jobs_and_front_outlast_a_redis_that_is_killed_and_started_again(
    nodes: RayNodes, redis: RedisServer, meeting: Meeting, tmp_path: Path
) -> None:
    master = MasterProcess(tmp_path / "data", nodes.address, store=redis.url, store_lease_seconds=30.0)
    peer = master.start()
    try:
        ends = counted(tmp_path, "ends", meeting.code("begun") + "print('done')\n")
        peer.submit(script("ends", ends), script("next", counted(tmp_path, "next", ""), parents=["ends"]))
        meeting.arrival()
        redis.kill()
        meeting.let_go()  # it ends while nothing can be stored
        redis.start()
        assert peer.until("next", seconds=60) == "COMPLETED"
        assert (runs(tmp_path, "ends"), runs(tmp_path, "next")) == (1, 1)
        assert peer.log("ends") == "done\n"
        assert info(peer, "ends")["attempts"] == 1
    finally:
        master.close()


# Nobody else may be at it; SIGTERM alone does not end it.
ALONE = """
import fcntl, os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
fcntl.flock(os.open({lock!r}, os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


def test_a_run_that_redis_has_forgotten_is_ended_before_its_job_runs_again(
    nodes: RayNodes, redis: RedisServer, meeting: Meeting, tmp_path: Path
) -> None:
    settings = {"store": redis.url, "store_lease_seconds": 2.0}
    first = MasterProcess(tmp_path / "first", nodes.address, **settings)
    code = ALONE.format(lock=str(tmp_path / "lock")) + meeting.code("begun")
    peer = first.start()
    peer.submit(script("forgotten", counted(tmp_path, "forgotten", code), delay=3000))
    kept, lost = redis.folder / "appendonlydir", tmp_path / "kept"
    shutil.copytree(kept, lost)
    meeting.arrival()
    first.kill()
    redis.kill()
    # As after a power cut with appendfsync everysec: the job is there, and its start is not.
    shutil.rmtree(kept)
    shutil.copytree(lost, kept)
    redis.start()
    second = MasterProcess(tmp_path / "second", nodes.address, **settings)
    peer = second.start()
    try:
        meeting.arrival()
        assert runs(tmp_path, "forgotten") == 2
        meeting.let_go()
        assert peer.until("forgotten") == "COMPLETED", peer.log("forgotten")
        assert info(peer, "forgotten")["attempts"] == 1
    finally:
        second.close()


def test_a_run_that_lives_is_ended_before_its_job_which_redis_calls_pending_runs_again(
    nodes: RayNodes, redis: RedisServer, meeting: Meeting, tmp_path: Path
) -> None:
    """The front lives when Redis loses what it has acknowledged, and stops; the next one is told to go on."""
    settings = {"store": redis.url, "store_lease_seconds": 2.0}
    first = MasterProcess(tmp_path / "first", nodes.address, **settings)
    code = ALONE.format(lock=str(tmp_path / "lock")) + meeting.code("begun")
    with (tmp_path / "said").open("wb") as errors:
        peer = first.start(errors)
        peer.submit(script("lives", counted(tmp_path, "lives", code), delay=5000))
        assert peer.status("lives") == "PENDING"
        with redis.losing():
            meeting.arrival()
            assert peer.until("lives", "RUNNING") == "RUNNING"
        assert first.ended() == 1
    assert "has lost commits" in (tmp_path / "said").read_text()
    second = MasterProcess(tmp_path / "second", nodes.address, accept_lost_commits=True, **settings)
    peer = second.start()
    try:
        meeting.arrival()
        assert runs(tmp_path, "lives") == 2
        meeting.let_go()
        assert peer.until("lives") == "COMPLETED", peer.log("lives")
        assert info(peer, "lives")["attempts"] == 1
    finally:
        second.close()
