"""What a job did is not lost because the master was away, however long, and wherever the next one listens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting
from tests.support.process_watch import (
    forks_of,
    has_ended,
    launchers_of,
    pauses_of,
    wait_for,
    worker_processes,
)
from titan_sdk import TitanClient, TitanJob

# Slow: Masters are away for seconds while jobs end.
pytestmark = pytest.mark.slow


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MasterProcess]:
    # How long a launcher waits elsewhere; here it is over long before the next master comes.
    monkeypatch.setenv("TITAN_RUNTIME_END_PATIENCE", "0.1")
    monkeypatch.setenv("TITAN_RUNTIME_START_PATIENCE", "0.1")
    made = MasterProcess(tmp_path / "data", workers={"GENERAL": 1})
    yield made
    made.close()


def job(folder: Path, job_id: str, code: str) -> TitanJob:
    path = folder / f"{job_id}.py"
    path.write_text(code)
    return TitanJob(job_id, str(path))


def wait_for_word(log: Path, word: str) -> None:
    deadline = time.monotonic() + 60
    while not (log.exists() and word in log.read_text()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def wait_until_patience_is_over(launcher: int) -> None:
    """It has ended, or slept more often than in 0.1 s: first for 0.05 s, then for twice as long each time."""
    before = pauses_of(launcher)
    wait_for(lambda: has_ended(str(launcher)) or pauses_of(launcher) > before + 3)


def test_a_job_that_ends_while_the_master_is_away_hands_in_what_it_did(
    master: MasterProcess, meeting: Meeting, tmp_path: Path
) -> None:
    """The next master has another port."""
    code = "print('line 1')\n" + meeting.code("up")
    code += "print('x' * 100_000)\nprint('line 2')\nimport titan_job\ntitan_job.result({'answer': 42})\n"
    with TitanClient(*master.start().address) as client:
        client.submit_job(job(tmp_path, "j", code))
        _, connection = meeting.arrival()
        port = client.config.port
    (launcher,) = launchers_of(tmp_path / "data").values()
    master.kill()
    connection.close()
    # Its patience begins when it has ended.
    wait_for_word(tmp_path / "data" / "logs" / "DAG-j.log", "line 2")
    wait_until_patience_is_over(launcher)
    peer = master.start()
    assert peer.address[1] != port
    with TitanClient(*peer.address) as client:
        report = client.job_handle("j").wait(300)
        assert report.result == {"answer": 42}
        log = client.fetch_logs("j")
    assert log.startswith("line 1\n")
    assert log.endswith("x\nline 2\n")


def test_a_job_that_starts_as_the_master_goes_away_runs_when_there_is_one(
    master: MasterProcess, meeting: Meeting, tmp_path: Path
) -> None:
    with TitanClient(*master.start().address) as client:
        client.submit_job(job(tmp_path, "first", meeting.code("up")))
        meeting.arrival()
        client.submit_job(job(tmp_path, "second", "import titan_job\ntitan_job.result(1)\n"))
        first = forks_of(tmp_path / "data")
        # The first ends and the second is started; then nobody answers it.
        master.pause()
        meeting.let_go()
        wait_for(lambda: not forks_of(tmp_path / "data") & first)
        master.go_on()
        wait_for(
            lambda: forks_of(tmp_path / "data") - first or client.get_job_status("second") == "COMPLETED"
        )
    master.kill()
    for launcher in launchers_of(tmp_path / "data").values():
        wait_until_patience_is_over(launcher)
    with TitanClient(*master.start().address) as client:
        assert client.job_handle("second").wait(300).result == 1


def test_a_job_whose_folder_was_removed_waits_for_nobody(
    master: MasterProcess, meeting: Meeting, tmp_path: Path
) -> None:
    import os
    import shutil

    from tests.support.runtime_bench import Watch

    code = "import os\n" + meeting.code("@").replace("b'@'", "str(os.getppid()).encode()")
    with TitanClient(*master.start().address) as client:
        client.submit_job(job(tmp_path, "j", code))
        launcher, connection = meeting.arrival()
    watch = Watch(int(launcher))
    master.kill()
    shutil.rmtree(tmp_path / "data")
    connection.close()
    assert watch.has_ended(60)
    watch.close()
    wait_for(lambda: not worker_processes(tmp_path / "data"))
    os.mkdir(tmp_path / "data")
