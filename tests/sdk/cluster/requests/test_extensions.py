"""The extension opcodes of the bundled master, asked as a client asks them."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from titan_sdk import CorruptData, JobStatus, NotFound, RequestRefused, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.master.state import Waiters
from titan_sdk.flows.core import ask
from titan_sdk.wire import extended_calls
from titan_sdk.wire.calls import Call
from titan_sdk.wire.extensions import CHUNK_SIZE, AssetWrite
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture
def master(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(workers={"GENERAL": 1}, data_dir=tmp_path / "data") as running:
        yield running


@pytest.fixture
def client(master: LocalCluster) -> Iterator[TitanClient]:
    with TitanClient(master.host, master.port) as connected:
        yield connected


@pytest.fixture
def say(client: TitanClient) -> Callable[[Call[Any]], Any]:
    return lambda call: client._run(ask(call))


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / f"{secrets.token_hex(4)}.py"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_wait_is_answered_at_the_end_of_the_first_job(client, say, script, tmp_path):
    gate = tmp_path / "gate"
    job = client.submit_job(
        TitanJob(
            "gated", script(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)")
        )
    )
    answers: list[dict[str, JobStatus]] = []
    waiter = threading.Thread(
        target=lambda: answers.append(say(extended_calls.wait(["gated", "nobody"], 25)).states)
    )
    waiter.start()
    gate.touch()
    waiter.join(timeout=300)
    assert answers == [{"DAG-gated": JobStatus.COMPLETED, "DAG-nobody": JobStatus.UNKNOWN}]
    assert say(extended_calls.wait([job.job_id], 25)).states == {"DAG-gated": JobStatus.COMPLETED}


def test_wait_is_answered_after_its_time(say, client, script):
    client.submit_job(TitanJob("long", script("import time; time.sleep(600)")))
    began = time.monotonic()
    states = say(extended_calls.wait(["long"], 0.3)).states
    assert time.monotonic() - began >= 0.3
    assert states["DAG-long"] in {JobStatus.PENDING, JobStatus.RUNNING}


def test_wait_for_nobody_is_answered_at_once(say):
    assert say(extended_calls.wait(["nobody"], 25)).states == {"DAG-nobody": JobStatus.UNKNOWN}


def test_stopping_the_master_wakes_those_who_wait(tmp_path, script, monkeypatch):
    parked = threading.Event()
    watch = Waiters.watch

    def noticed(self: Waiters, **options: Any) -> Any:
        parked.set()
        return watch(self, **options)

    monkeypatch.setattr(Waiters, "watch", noticed)
    running = LocalCluster(workers={"GENERAL": 1}, data_dir=tmp_path / "stopped")
    running.start()
    with TitanClient(running.host, running.port) as client:
        client.submit_job(TitanJob("long", script("import time; time.sleep(600)")))
        ended = threading.Event()

        def wait() -> None:
            client._run(ask(extended_calls.wait(["long"], 25)))
            ended.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert parked.wait(timeout=60)
        running.stop()
        assert ended.wait(timeout=60)
        waiter.join()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"requirement": "TPU"}, "no worker has the tag 'TPU'"),
        ({"delay": 600_000}, "is delayed until"),
        ({"parents": ["running"]}, "waits for 1 of its parents"),
        ({}, "every worker with the tag 'GENERAL' is busy"),
    ],
)
def test_job_info_says_why_a_job_does_not_run(client, say, script, options, sentence):
    client.submit_job(TitanJob("running", script("import time; time.sleep(600)")))
    client.submit_job(TitanJob("asked", script("pass"), **options))
    found = client.job_details("asked")
    assert found.state == "PENDING"
    assert sentence in found.reason


def test_job_info_counts_who_is_ahead_and_tells_the_history(client, say, script):
    client.submit_job(TitanJob("running", script("import time; time.sleep(600)")))
    for index in range(3):
        client.submit_job(TitanJob(f"q{index}", script("pass"), priority=index))
    assert [client.job_details(f"q{index}").ahead for index in range(3)] == [2, 1, 0]
    client.cancel_job("running")
    client.wait_for_job("q0", timeout=300)
    found = client.job_details("q0")
    assert (found.state, found.exit_code, found.attempts) == ("COMPLETED", 0, 1)
    assert any("COMPLETED" in text for _, text in found.history)


def test_job_info_of_nobody_is_not_found(client):
    with pytest.raises(NotFound):
        client.job_details("nobody")


def test_a_log_is_read_piece_by_piece_without_cutting_a_character(client, say, script):
    text = "é日🚀" * 200_000
    source = script(f"import sys; sys.stdout.reconfigure(encoding='utf-8'); print({'é日🚀'!r} * 200_000)")
    client.submit_job(TitanJob("prints", source, runtime=False)).wait(timeout=60)
    offset, parts, ended = 0, [], False
    while not ended:
        piece = say(extended_calls.log_read("prints", offset))
        parts.append(piece.text)
        offset, ended = piece.next_offset, piece.ended
    assert len(parts) > 1
    assert "".join(parts) == text + "\n"


def test_chunks_make_a_file_at_once_and_only_when_the_checksum_is_right(client, say, tmp_path):
    content = secrets.token_bytes(CHUNK_SIZE + 5)
    digest = hashlib.sha256(content).hexdigest()
    upload = secrets.token_hex(8)
    first = AssetWrite("whole.bin", upload, 0, None, content[:CHUNK_SIZE])
    assert say(extended_calls.asset_write(first)) == CHUNK_SIZE
    assert say(extended_calls.asset_write(first)) == CHUNK_SIZE  # its reply may have been lost
    with pytest.raises(NotFound):
        client.fetch_artifact("whole.bin", tmp_path / "copy")
    last = AssetWrite("whole.bin", upload, CHUNK_SIZE, digest, content[CHUNK_SIZE:])
    assert say(extended_calls.asset_write(last)) == len(content)
    assert client.fetch_artifact("whole.bin", tmp_path / "copy").read_bytes() == content


def test_damaged_content_is_refused_and_leaves_what_was_there(client, say, tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("kept")
    client.upload_file(path)
    with pytest.raises(CorruptData, match="the master received other bytes than were sent"):
        say(extended_calls.asset_write(AssetWrite("kept.txt", secrets.token_hex(8), 0, "0" * 64, b"damaged")))
    assert client.fetch_artifact("kept.txt", tmp_path / "copy").read_text() == "kept"


@pytest.mark.parametrize(
    ("chunk", "sentence"),
    [
        (AssetWrite("../out", "0" * 16, 0, None, b""), "path traversal"),
        (AssetWrite("a", "short", 0, None, b""), "is not 16 hex digits"),
        (AssetWrite("a", "1" * 16, 7, None, b""), "begin again at offset 0"),
    ],
)
def test_chunks_that_make_no_sense_are_refused(say, chunk, sentence):
    with pytest.raises(RequestRefused, match=sentence):
        say(extended_calls.asset_write(chunk))


def test_versions_of_an_artifact_are_never_mixed(client, say, tmp_path):
    path = tmp_path / "changing.bin"
    path.write_bytes(b"a" * (CHUNK_SIZE + 1))
    client.upload_file(path)
    chunk = say(extended_calls.asset_read("changing.bin", 0))
    path.write_bytes(b"b" * (CHUNK_SIZE + 1))
    client.upload_file(path)
    with pytest.raises(RequestRefused, match="replaced while it was fetched"):
        say(extended_calls.asset_read("changing.bin", CHUNK_SIZE, chunk.sha256))


@pytest.mark.parametrize("opcode", [Opcode.WAIT, Opcode.JOB_INFO, Opcode.STORE_KEYS, Opcode.ASSET_WRITE])
@pytest.mark.parametrize("payload", ["", "not json", "[]", '{"ids": 3}', '{"ids": ["a"], "seconds": "x"}'])
def test_a_malformed_request_is_answered_with_what_is_wrong(say, opcode, payload):
    reply = say(Call("test", opcode, payload, lambda frame: frame, changes=False))
    assert reply.opcode == Opcode.ERROR
    assert opcode.name in reply.text
