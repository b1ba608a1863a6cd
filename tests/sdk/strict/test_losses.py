"""Restarts, lost workers, and a store that is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Meeting, Peer, script
from tests.sdk.strict.conftest import eventually
from titan_sdk.cluster import LocalCluster

# Slow: The pauses of a real master are what is tested.
pytestmark = pytest.mark.slow


def test_a_restart_forgets_parents_and_runs_what_ran_again(
    peer: Peer, cluster: LocalCluster, meeting: Meeting
) -> None:
    peer.submit(
        script("child", meeting.code("child"), parents=["parent"], name="c.py"),
        script("parent", meeting.code("parent"), name="p.py"),
    )
    assert meeting.arrival()[0] == "parent"
    cluster.strict.restart()
    words = {meeting.arrival()[0], meeting.arrival()[0]}
    assert words == {"parent", "child"}
    meeting.let_go()
    assert peer.until("DAG-parent") == peer.until("DAG-child") == "COMPLETED"


def test_a_restart_forgets_memory_logs_and_gives_the_file_instead(peer: Peer, cluster: LocalCluster) -> None:
    peer.submit(script("job", "for i in range(150): print(i)"))
    assert peer.until("DAG-job") == "COMPLETED"
    whole = cluster.data_dir / "logs" / "DAG-job.log"
    eventually(lambda: whole.exists() and whole.read_text().count("\n") == 150)
    cluster.strict.restart()
    assert sorted(peer.log("DAG-job").split()) == sorted(map(str, range(150)))
    assert peer.status("DAG-job") == "COMPLETED"


def test_a_lost_workers_job_runs_for_ever(peer: Peer, cluster: LocalCluster, meeting: Meeting) -> None:
    peer.submit(script("job", meeting.code("up")))
    _, connection = meeting.arrival()
    cluster.strict.lose_worker(8080)
    assert connection.recv(1) == b""
    eventually(lambda: '"active_workers": 1' in peer.ask(0x09).text)
    assert peer.status("DAG-job") == "RUNNING"


def test_a_store_that_is_down_loses_everything_with_ok(
    peer: Peer, cluster: LocalCluster, tmp_path: Path
) -> None:
    peer.ask(0x60, "kept|before")
    peer.ask(0x62, "set|member")
    cluster.strict.stop_store()
    assert (peer.ask(0x60, "lost|value").text, peer.ask(0x61, "kept").text) == ("OK", "NULL")
    assert (peer.ask(0x62, "s|m").text, peer.ask(0x63, "set").text) == ("0", "")
    done = tmp_path / "done"
    peer.submit(script("job", f"open({str(done)!r}, 'w')"))
    eventually(done.exists)
    assert peer.status("DAG-job") == "NULL"
    cluster.strict.start_store()
    assert (peer.ask(0x61, "kept").text, peer.ask(0x61, "lost").text) == ("before", "NULL")
    assert peer.ask(0x63, "set").text == ""  # sets do not outlive the store
