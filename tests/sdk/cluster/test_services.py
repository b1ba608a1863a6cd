from __future__ import annotations

import io
import json
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting, Peer, b64, script

# Slow: Services start, end and are started again in seconds.
pytestmark = pytest.mark.slow

SERVER = """
import os, socket
print("serving", os.getpid(), flush=True)
listener = socket.create_server(("127.0.0.1", {port}))
while True:
    connection, _ = listener.accept()
    word = connection.recv(100)
    if word == b"die":
        os._exit(3)
    connection.sendall(word)
    connection.close()
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def service(peer: Peer) -> Iterator[str]:
    """The id of a service that is stopped in any case."""
    yield "svc"
    peer.ask(0x07, "DAG-svc")


def deploy(name: str, code: str, port: object, tag: str = "GENERAL", filename: str = "server.py") -> str:
    return f"{name}|DEPLOY_PAYLOAD|{filename}|{b64(code)}|{port}|{tag}|1|0|[]"


def say(port: int, word: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(word)
        return connection.recv(100)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_service_is_completed_when_it_answers_and_lives_until_it_is_stopped(
    peer: Peer, port: int, service: str
) -> None:
    peer.submit(deploy(service, SERVER.format(port=port), port), script("child", "pass", parents=[service]))
    assert peer.until(service) == "COMPLETED"
    assert say(port, b"hello") == b"hello"
    assert peer.until("child") == "COMPLETED"
    stats = json.loads(peer.ask(0x09).text)
    assert [worker["services"] for worker in stats["workers"] if worker["services"]] == [["DAG-svc"]]
    assert peer.ask(0x07, service).text == "STOPPED: DAG-svc"
    assert not listens(port)
    assert peer.status(service) == "COMPLETED"
    reply = peer.ask(0x07, "DAG-svc").text
    assert reply == "ERROR: Service DAG-svc not found in liveServiceMap. Current keys: []"
    assert "[titan] the service was stopped" in peer.log(service)


def test_a_service_occupies_no_slot(peer: Peer, port: int, service: str) -> None:
    peer.submit(deploy(service, SERVER.format(port=port), port, tag="GPU"))
    peer.until(service)
    peer.submit(script("beside", "pass", tag="GPU"))
    assert peer.until("beside") == "COMPLETED"


def answers(port: int, word: bytes) -> bool:
    """Whether a service echoes the word; the one that is just dying accepts, and then resets."""
    try:
        return say(port, word) == word
    except OSError:
        return False


def test_a_service_that_ends_is_started_again(peer: Peer, port: int, service: str) -> None:
    peer.submit(deploy(service, SERVER.format(port=port), port))
    peer.until(service)
    say(port, b"die")
    deadline = time.monotonic() + 60
    while not answers(port, b"back"):
        assert time.monotonic() < deadline
    assert peer.log(service).count("serving") == 2
    assert "it ended with exit code 3; the service is started again in 3 s" in peer.log(service)


def test_a_running_services_id_cannot_be_used(peer: Peer, port: int, service: str) -> None:
    peer.submit(deploy(service, SERVER.format(port=port), port))
    peer.until(service)
    reply = peer.submit(deploy(service, "", port))
    assert reply.text.startswith("ERROR: the service 'DAG-svc' is running; stop it first")


def test_cancel_stops_a_service(peer: Peer, port: int, service: str) -> None:
    peer.submit(deploy(service, SERVER.format(port=port), port))
    peer.until(service)
    assert peer.cancel(service) == "CANCELLED"
    assert peer.status(service) == "CANCELLED"
    deadline = time.monotonic() + 30
    while listens(port):
        assert time.monotonic() < deadline


def test_a_service_without_a_port_is_dead_and_says_why(peer: Peer) -> None:
    peer.submit(deploy("zero", "pass", 0))
    assert peer.until("zero") == "DEAD"
    assert "its port is 0; give the port" in peer.log("zero")


def test_a_service_whose_port_is_taken_is_dead_and_says_why(peer: Peer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        peer.submit(deploy("busy", "pass", busy), script("child-of-busy", "pass", parents=["busy"]))
        assert peer.until("busy") == "DEAD"
    assert f"its port {busy} cannot be used" in peer.log("busy")
    assert peer.until("child-of-busy") == "DEAD"


def test_two_services_do_not_share_a_port(peer: Peer, port: int, service: str) -> None:
    peer.submit(deploy(service, SERVER.format(port=port), port))
    peer.until(service)
    peer.submit(deploy("rival", "pass", port))
    assert peer.until("rival") == "DEAD"
    assert f"its port {port} belongs to the service DAG-svc" in peer.log("rival")


def test_a_service_that_cannot_be_executed_is_dead_and_says_why(peer: Peer, port: int) -> None:
    peer.submit(deploy("bad", "no program", port, filename="server.bin"))
    assert peer.until("bad") == "DEAD"
    assert "the service ended before it was up" in peer.log("bad")


def test_a_service_that_is_still_starting_can_be_cancelled(peer: Peer, port: int, meeting: Meeting) -> None:
    peer.submit(deploy("slow", meeting.code("up"), port))
    meeting.arrival()
    assert peer.status("slow") == "RUNNING"
    assert peer.ask(0x07, "slow").text == "STOPPED: DAG-slow"
    assert peer.status("slow") == "CANCELLED"
    assert peer.submit(script("slow", "pass")).ok
    assert peer.until("slow") == "COMPLETED"


def project(**members: str) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return b64(buffer.getvalue())


def test_an_archive_runs_in_its_entrys_folder_with_its_arguments(peer: Peer) -> None:
    code = "import os, sys, helper; print(sys.argv[1:], os.listdir('.'), helper.X)"
    peer.ask(0x53, "p.zip|" + project(**{"src/run.py": code, "src/helper.py": "X = 5", "other": ""}))
    peer.submit("arch|RUN_ARCHIVE|p.zip/src/run.py|one two|GENERAL|1|0|[]")
    assert peer.until("arch") == "COMPLETED"
    words = peer.log("arch")
    assert words.startswith("['one', 'two'] ")
    assert "helper.py" in words
    assert words.endswith("5\n")


@pytest.mark.parametrize(
    ("pointer", "sentence"),
    [
        ("absent.zip/run.py", "it is not among the uploaded files"),
        ("small.zip/absent.py", "has no file 'absent.py'"),
        ("slip.zip/run.py", "points outside the archive's folder"),
    ],
)
def test_an_archive_that_cannot_run_is_dead_and_says_why(peer: Peer, pointer: str, sentence: str) -> None:
    peer.ask(0x53, "small.zip|" + project(**{"run.py": "pass"}))
    peer.ask(0x53, "slip.zip|" + project(**{"run.py": "pass", "../evil.py": ""}))
    name = "arch-" + pointer.partition(".")[0]
    peer.submit(f"{name}|RUN_ARCHIVE|{pointer}||GENERAL|1|0|[]")
    assert peer.until(name) == "DEAD"
    assert sentence in peer.log(name)


def test_an_archive_service_gets_its_arguments(peer: Peer, port: int, service: str) -> None:
    code = SERVER.replace("{port}", "int(__import__('sys').argv[1])")
    peer.ask(0x53, "web.zip|" + project(**{"web.py": code}))
    peer.submit(f"{service}|START_ARCHIVE_SERVICE|web.zip/web.py|{port}|{port}|GENERAL|1|0|[]")
    assert peer.until(service) == "COMPLETED"
    assert say(port, b"zip") == b"zip"


def test_an_archive_service_without_a_port_is_up_when_it_is_started(peer: Peer, service: str) -> None:
    peer.ask(0x53, "idle.zip|" + project(**{"idle.sh": "exec sleep 1000"}))
    peer.submit(f"{service}|START_ARCHIVE_SERVICE|idle.zip/idle.sh||0|GENERAL|1|0|[]")
    assert peer.until(service) == "COMPLETED"
    assert peer.ask(0x07, service).text == "STOPPED: DAG-svc"


def test_deploy_by_name(peer: Peer, port: int) -> None:
    peer.ask(0x57, f"named.py|{b64(SERVER.format(port=port))}")
    assert peer.ask(0x05, f"named.py|{port}|GPU").text == "DEPLOY_QUEUED"
    found: list[str] = []
    while not found:
        workers = json.loads(peer.ask(0x09).text)["workers"]
        found = next(worker["services"] for worker in workers if worker["name"] == "GPU-1")
    assert say(port, b"named") == b"named"
    assert peer.ask(0x07, found[0]).text == f"STOPPED: {found[0]}"


def test_a_service_outlives_the_master_and_can_be_stopped_by_the_next(tmp_path: Path, port: int) -> None:
    master = MasterProcess(tmp_path)
    peer = master.start()
    peer.submit(deploy("svc", SERVER.format(port=port), port))
    peer.until("svc")
    master.kill()
    assert say(port, b"alone") == b"alone"
    peer = master.start()
    assert say(port, b"taken over") == b"taken over"
    assert peer.log("svc").count("serving") == 1
    assert peer.ask(0x07, "svc").text == "STOPPED: DAG-svc"
    assert not listens(port)
    master.close()


def test_a_service_is_started_again_by_the_next_master_after_a_proper_stop(tmp_path: Path, port: int) -> None:
    master = MasterProcess(tmp_path)
    peer = master.start()
    peer.submit(deploy("svc", SERVER.format(port=port), port))
    peer.until("svc")
    assert master.stop() == 0
    assert not listens(port)
    peer = master.start()
    while not listens(port):
        pass
    assert peer.log("svc").count("serving") == 2
    master.close()
