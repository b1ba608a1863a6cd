"""A run belongs to its data directory: one that was renamed keeps its runs, and a copy leaves the original's alone."""

from __future__ import annotations

import base64
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting, Peer, script
from titan_sdk import ClientConfig, TitanClient, TitanJob

# Slow: Each test kills a master and starts the next one.
pytestmark = pytest.mark.slow


@pytest.fixture
def masters(tmp_path: Path) -> Iterator[dict[str, MasterProcess]]:
    """Of the original folder and of the other one."""
    made = {name: MasterProcess(tmp_path / name, workers={"GENERAL": 1}) for name in ("data", "other")}
    yield made
    for master in made.values():
        master.close()


def copy(folder: Path) -> None:
    # Sockets and what else is no file stay where they are.
    shutil.copytree(folder / "data", folder / "other", symlinks=True, ignore=lambda *_: ["local"])


def client_of(peer: Peer, token: str | None) -> TitanClient:
    return TitanClient(config=ClientConfig(*peer.address, auth_token=token))


def with_number(meeting: Meeting) -> str:
    """Code that says its process number."""
    return "import os\n" + meeting.code("@").replace("b'@'", "str(os.getpid()).encode()")


def has_visitor(meeting: Meeting) -> bool:
    """Whether a job has come, and nobody has asked for it."""
    meeting._listener.settimeout(0)
    try:
        meeting._listener.accept()
    except BlockingIOError:
        return False
    return True


def wait_until_ended(pid: int) -> None:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            while stat.read().rpartition(")")[2].split()[0] != "Z":
                stat.seek(0)
    except (FileNotFoundError, ProcessLookupError):
        pass


def test_a_folder_that_is_renamed_keeps_its_runs(
    masters: dict[str, MasterProcess], meeting: Meeting, tmp_path: Path
) -> None:
    peer = masters["data"].start()
    peer.submit(script("job", meeting.code("up") + "\nprint('done')"))
    _, connection = meeting.arrival()
    masters["data"].kill()
    (tmp_path / "data").rename(tmp_path / "other")
    peer = masters["other"].start()
    assert peer.status("job") == "RUNNING"
    connection.close()
    assert peer.until("job") == "COMPLETED"
    assert peer.log("job") == "done\n"
    assert not has_visitor(meeting)


def test_so_does_one_whose_job_ended_before(
    masters: dict[str, MasterProcess], meeting: Meeting, tmp_path: Path
) -> None:
    peer = masters["data"].start()
    peer.submit(script("job", with_number(meeting) + "\nprint('done')"))
    word, connection = meeting.arrival()
    masters["data"].kill()
    connection.close()
    wait_until_ended(int(word))
    (tmp_path / "data").rename(tmp_path / "other")
    peer = masters["other"].start()
    assert peer.until("job") == "COMPLETED"
    assert peer.log("job") == "done\n"
    assert not has_visitor(meeting)


@pytest.mark.parametrize("size", [5, 300_000], ids=["in its last record", "in slices"])
@pytest.mark.parametrize("token", [None, "a-token-of-this-folder"], ids=["open", "token"])
def test_what_a_job_hands_in_finds_the_next_master(
    meeting: Meeting, tmp_path: Path, token: str | None, size: int
) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        f"import titan_job\ntitan_job.result({size} * 'x')\n" + meeting.code("up") + "print('done')"
    )
    with MasterProcess(tmp_path / "data", token=token) as master:
        with client_of(master.start(), token) as client:
            nonce = client.submit_job(TitanJob("job", str(script))).nonce
            _, connection = meeting.arrival()
        master.kill()
    (tmp_path / "data").rename(tmp_path / "other")
    connection.close()
    with MasterProcess(tmp_path / "other", token=token) as master, client_of(master.start(), token) as client:
        job = client.job_handle("job", nonce)
        assert job.wait(timeout=240).attempts == 1
        assert job.result() == size * "x"
        assert job.logs() == "done\n"


def test_a_copy_of_a_live_folder_leaves_its_jobs_alone(
    masters: dict[str, MasterProcess], meeting: Meeting, tmp_path: Path
) -> None:
    original = masters["data"].start()
    original.submit(script("job", meeting.code("up") + "\nopen(__file__)\nprint('done')"))
    _, connection = meeting.arrival()
    copy(tmp_path)
    peer = masters["other"].start()
    assert peer.until("job") == "DEAD"
    assert "copied from another one" in peer.ask(0x42, '{"id": "DAG-job"}').text
    masters["other"].stop()
    connection.close()
    assert original.until("job") == "COMPLETED"
    # And after the original's end the copy knows how it ended, or that it does not know; it starts nothing.
    peer = masters["other"].start()
    assert peer.status("job") == "DEAD"
    assert not has_visitor(meeting)


def test_a_copy_does_not_end_what_the_original_is_ending(
    masters: dict[str, MasterProcess], meeting: Meeting, tmp_path: Path
) -> None:
    original = masters["data"].start()
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    with client_of(original, None) as client:
        # Its worker process is not paused, and would end it after the grace.
        client.submit_job(TitanJob("job", source=deaf + with_number(meeting), cancel_grace=600))
    word, _ = meeting.arrival()
    assert original.cancel("job") == "CANCELLED"
    masters["data"].pause()
    copy(tmp_path)
    copied = masters["other"].start()
    assert copied.status("job") == "CANCELLED"
    assert copied.submit(script("job", "")).ok
    os.kill(int(word), 0)
    masters["data"].go_on()
    meeting.let_go()


def test_a_copy_does_not_start_the_originals_services(
    masters: dict[str, MasterProcess], meeting: Meeting, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"import socket\nserver = socket.create_server(('127.0.0.1', {port}))\n" + meeting.code("up")
    original = masters["data"].start()
    content = base64.b64encode(code.encode()).decode()
    assert original.submit(f"svc|DEPLOY_PAYLOAD|svc.py|{content}|{port}|GENERAL|1|0|[]").ok
    original.until("svc")
    meeting.arrival()
    copy(tmp_path)
    peer = masters["other"].start()
    assert "svc" not in peer.ask(0x03, "DAG-svc").text.partition("Current keys:")[2]
    masters["other"].stop()
    socket.create_connection(("127.0.0.1", port)).close()
    assert not has_visitor(meeting)
