"""A data directory of the version that had keepers: refused while they live, else taken over with what they noted."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting, Peer, script
from tests.support.process_watch import wait_for, worker_processes
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.worker.machine import boot_id
from titan_sdk.errors import TitanError

# Slow: Each test kills a master and starts the next one.
pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, meeting: Meeting) -> Iterator[Path]:
    """Of a master that was killed while ``DAG-job`` ran, whose process has ended since."""
    master = MasterProcess(tmp_path / "data", workers={"GENERAL": 1})
    peer = master.start()
    peer.submit(script("job", meeting.code("up")))
    meeting.arrival()
    master.kill()
    meeting.let_go()
    wait_for(lambda: not worker_processes(tmp_path / "data"))
    yield tmp_path / "data"
    master.close()


def as_of_keeper(folder: Path, pid: int, word: str | None) -> None:
    """What the version before would have left: its keeper's handle, and its last word about the run."""
    with closing(sqlite3.connect(folder / "master.sqlite3")) as db, db:
        ((run,),) = db.execute("SELECT run FROM jobs WHERE job_id = 'DAG-job'").fetchall()
        db.execute(
            "UPDATE jobs SET handle = ? WHERE job_id = 'DAG-job'",
            (f"{pid}:keeper-0123:{boot_id()}:1.2:{folder}/exits.log",),
        )
    lines = [f"{run} @0", f"{run} @{pid}", *([] if word is None else [f"{run} {word}"]), "keeper-0123 closed"]
    (folder / "exits.log").write_text("\n".join(lines) + "\n")


def test_live_keepers_are_refused_with_their_jobs(folder: Path) -> None:
    keeper = subprocess.Popen([sys.executable, "-c", "input()", "keeper-0123"], stdin=subprocess.PIPE)
    as_of_keeper(folder, keeper.pid, None)
    with pytest.raises(TitanError, match=r"DAG-job still run in .* start that version once more"):
        LocalCluster({"GENERAL": 1}, data_dir=folder).start()
    keeper.communicate(b"\n")
    # Nothing was changed; when it has ended the folder is taken over.
    as_of_keeper(folder, keeper.pid, "0")
    assert ended(folder) == "COMPLETED"


@pytest.mark.parametrize(("word", "state"), [("0", "COMPLETED"), ("98", "DEAD")])
def test_what_a_keeper_noted_counts(folder: Path, word: str, state: str) -> None:
    as_of_keeper(folder, 4_000_000, word)
    assert ended(folder) == state


def test_a_keeper_that_was_killed_costs_a_run(folder: Path, meeting: Meeting) -> None:
    as_of_keeper(folder, 4_000_000, None)
    with LocalCluster({"GENERAL": 1}, data_dir=folder) as cluster:
        assert meeting.arrival()[0] == "up"
        meeting.let_go()
        peer = Peer((cluster.host, cluster.port))
        assert peer.until("job") == "COMPLETED"
        assert peer.ask(0x42, '{"id": "DAG-job"}').text.count("queued again") == 1


def ended(folder: Path) -> str:
    with LocalCluster({"GENERAL": 1}, data_dir=folder) as cluster:
        return Peer((cluster.host, cluster.port)).until("job")
