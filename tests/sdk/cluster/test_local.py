from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Meeting, Peer, script
from tests.support.process_watch import has_ended, wait_for, worker_processes
from titan_sdk.cluster import LocalCluster
from titan_sdk.errors import InvalidArgument, TitanError


def test_it_serves_while_it_is_open_and_removes_its_own_folder() -> None:
    with LocalCluster(workers={"GENERAL": 1}) as cluster:
        folder = cluster.data_dir
        assert folder.is_dir()
        assert cluster.address == f"127.0.0.1:{cluster.port}"
        assert Peer((cluster.host, cluster.port)).ask(0x61, "x").text == "NULL"
        address = (cluster.host, cluster.port)
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        Peer(address).ask(0x61, "x")
    with pytest.raises(TitanError, match="not running"):
        _ = cluster.port
    with pytest.raises(TitanError, match="not running"):
        _ = cluster.data_dir


async def test_it_works_with_async_with() -> None:
    async with LocalCluster(workers={"GENERAL": 1}) as cluster:
        assert cluster.port > 0


def test_a_given_folder_stays_and_is_used_again(tmp_path: Path) -> None:
    with LocalCluster(data_dir=tmp_path / "data") as cluster:
        Peer((cluster.host, cluster.port)).ask(0x60, "key|value")
    with LocalCluster(data_dir=tmp_path / "data") as cluster:
        assert Peer((cluster.host, cluster.port)).ask(0x61, "key").text == "value"


def test_stopping_ends_what_runs_and_the_next_cluster_runs_it_again(tmp_path: Path, meeting: Meeting) -> None:
    code = meeting.code("up") + "print('done')"
    with LocalCluster(data_dir=tmp_path) as cluster:
        Peer((cluster.host, cluster.port)).submit(
            script("job", code), script("child", "pass", parents=["job"])
        )
        _, connection = meeting.arrival()
    assert connection.recv(1) == b""
    with LocalCluster(data_dir=tmp_path) as cluster:
        peer = Peer((cluster.host, cluster.port))
        meeting.arrival()
        assert peer.status("child") == "PENDING"
        meeting.let_go()
        assert peer.until("child") == "COMPLETED"


def test_two_clusters_live_side_by_side() -> None:
    with LocalCluster() as one, LocalCluster() as two:
        assert one.port != two.port
        Peer((one.host, one.port)).ask(0x60, "key|one")
        assert Peer((two.host, two.port)).ask(0x61, "key").text == "NULL"


def test_what_cannot_start_says_why_and_can_be_tried_again(tmp_path: Path) -> None:
    with LocalCluster(data_dir=tmp_path) as running:
        second = LocalCluster(data_dir=tmp_path)
        with pytest.raises(TitanError, match="another master"):
            second.start()
        taken = LocalCluster(port=running.port)
        with pytest.raises(TitanError, match=f"cannot listen on 127.0.0.1:{running.port}.*another port"):
            taken.start()
        with pytest.raises(TitanError, match="running already"):
            running.start()
    with second:
        assert second.port > 0
    second.stop()


def test_a_wrong_setting_is_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidArgument, match="slots 0"):
        LocalCluster(slots=0)
    with pytest.raises(InvalidArgument, match="strict_titan keeps values and jobs in memory"):
        LocalCluster(strict_titan=True, durability="full")


def test_more_slots_run_more_at_once(meeting: Meeting) -> None:
    with LocalCluster(workers={"GENERAL": 1}, slots=3) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(*(script(f"j{n}", meeting.code(str(n))) for n in range(4)))
        assert sorted(meeting.arrival()[0] for _ in range(3)) == ["0", "1", "2"]
        assert peer.status("j3") == "PENDING"
        meeting.let_go()
        assert meeting.arrival()[0] == "3"


PROGRAM = """
import sys
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
with LocalCluster(workers={"GENERAL": 2}) as cluster, TitanClient("127.0.0.1", cluster.port) as client:
    for runtime in (True, False):
        name = f"runtime-{runtime}"
        code = "import os, time; print(os.getpid(), flush=True); time.sleep(3600)"
        job = client.submit_job(TitanJob(name, source=code, runtime=runtime))
        print(cluster.data_dir, next(job.follow_logs()), flush=True)
    sys.stdin.read()
"""


def test_nothing_runs_on_when_a_program_with_a_temporary_cluster_is_killed(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    with program:
        assert program.stdout is not None
        told = [program.stdout.readline().split() for _ in range(2)]
        program.kill()
    folder, jobs = Path(told[0][0]), [line[1] for line in told]
    wait_for(lambda: all(map(has_ended, jobs)) and not worker_processes(folder))
