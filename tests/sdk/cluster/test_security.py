"""What a hostile client may try with names, archives and fields, and what jobs may see of their master."""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Peer, b64, frame, read_reply, script
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines.archives import ArchiveRefused, unpack
from titan_sdk.wire.opcodes import Opcode

OUTSIDE = ["../x", "../../x", "a/../../x", "..", ".", "", "/", "//", "a/\0b", "..\0", "./../x"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    os.environ["TITAN_AUTH_TOKEN"] = "the-token-of-the-master"
    try:
        with LocalCluster({"GENERAL": 2}, data_dir=tmp_path_factory.mktemp("outer") / "data") as running:
            yield running
    finally:
        del os.environ["TITAN_AUTH_TOKEN"]


@pytest.fixture
def peer(cluster: LocalCluster) -> Peer:
    return Peer((cluster.host, cluster.port))


# ---------------------------------------------------------------------- path traversal


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_file_is_written_or_read_outside(cluster: LocalCluster, peer: Peer, name: str) -> None:
    before = {path.name for path in cluster.data_dir.parent.iterdir()}
    for opcode in (Opcode.UPLOAD_ASSET, Opcode.DEPLOY_SCRIPT):
        assert "SUCCESS" not in peer.ask(opcode, f"{name}|{b64('x')}").text
    assert peer.ask(Opcode.FETCH_ASSET, name).text.startswith("ERROR")
    header = json.dumps({"name": name, "upload": "0123456789abcdef", "offset": 0, "sha256": "0" * 64})
    assert peer.ask(Opcode.ASSET_WRITE, header.encode() + b"\nx").text.startswith("ERROR")
    assert peer.ask(Opcode.ASSET_READ, json.dumps({"name": name, "offset": 0})).text.startswith("ERROR")
    assert peer.ask(Opcode.RUN, f"{name}|GENERAL").text.startswith("ERROR")
    assert peer.ask(Opcode.DEPLOY, f"{name}|1|GENERAL").text.startswith("ERROR")
    assert {path.name for path in cluster.data_dir.parent.iterdir()} == before


@pytest.mark.parametrize("name", ["../x.py", "/etc/x.py", "a/b.py", "..", "a\0.py"])
def test_no_script_is_staged_outside(peer: Peer, name: str) -> None:
    reply = peer.submit(script("DAG-out", "pass", name=name))
    assert "is not a plain file name" in reply.text or "cannot be read" in reply.text, reply


@pytest.mark.parametrize(
    "job_id", ["../../escape", "/etc/escape", "a/../../b", "..", ".hidden", "x" * 900, "é" * 300]
)
def test_a_jobs_id_is_never_a_path(cluster: LocalCluster, peer: Peer, job_id: str) -> None:
    assert peer.ask(Opcode.SUBMIT_JOB, script(job_id, "print('ran')").rpartition("|")[0]).ok
    assert peer.until(job_id) == "COMPLETED"
    assert peer.log(job_id) == "ran\n"
    assert [path.name for path in cluster.data_dir.parent.iterdir()] == ["data"]


def test_a_link_in_the_uploads_is_not_followed(cluster: LocalCluster, peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (cluster.data_dir / "uploads" / "link").symlink_to(tmp_path)
    assert peer.ask(Opcode.FETCH_ASSET, "link/secret").text.startswith("ERROR")
    assert "SUCCESS" not in peer.ask(Opcode.UPLOAD_ASSET, f"link/new|{b64('x')}").text
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


# ---------------------------------------------------------------------- archives


def a_zip(*members: tuple[str, bytes, int]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("../out.py", b"x", 0o644), "points outside the archive's folder"),
        (("/out.py", b"x", 0o644), "points outside the archive's folder"),
        (("a/../../out.py", b"x", 0o644), "points outside the archive's folder"),
        (("..\\out.py", b"x", 0o644), "points outside the archive's folder"),
        (("link", b"/etc/passwd", 0o120777), "is a link or a device"),
        (("bomb", b"\0" * 3_000_000, 0o644), "unpacks to more than 1,000,000 bytes"),
    ],
)
def test_a_hostile_zip_is_refused(tmp_path: Path, member: tuple[str, bytes, int], words: str) -> None:
    (tmp_path / "evil.zip").write_bytes(a_zip(("main.py", b"print(1)", 0o644), member))
    folder = tmp_path / "inner" / "job"
    folder.mkdir(parents=True)
    with pytest.raises(ArchiveRefused, match=words):
        unpack(tmp_path / "evil.zip", folder, max_bytes=1_000_000)
    assert not list(tmp_path.rglob("out.py"))


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    data = bytearray(a_zip(("bomb", b"\0" * 5_000_000, 0o644)))
    # The sizes in the central directory say 10 bytes.
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    (tmp_path / "evil.zip").write_bytes(data)
    (tmp_path / "job").mkdir()
    with pytest.raises(ArchiveRefused):
        unpack(tmp_path / "evil.zip", tmp_path / "job", max_bytes=1_000_000)
    assert sum(path.stat().st_size for path in (tmp_path / "job").iterdir()) <= 1_300_000


def test_the_job_of_a_hostile_zip_dies_with_a_reason(peer: Peer) -> None:
    evil = base64.b64encode(a_zip(("main.py", b"print(1)", 0o644), ("../../out.py", b"x", 0o644))).decode()
    assert peer.ask(Opcode.UPLOAD_ASSET, f"evil.zip|{evil}").text == "UPLOAD_SUCCESS"
    assert peer.submit("DAG-evil|RUN_ARCHIVE|evil.zip/main.py||GENERAL|1|0|[]").ok
    assert peer.until("DAG-evil") == "DEAD"
    assert "points outside the archive's folder" in peer.log("DAG-evil")


# ---------------------------------------------------------------------- shells

INJECTIONS = [
    "$(touch {m})",
    "`touch {m}`",
    "'; touch {m} #",
    '"; touch {m} #',
    "&& touch {m}",
    "$IFS;touch {m}",
    "%s%n",
    "\n touch {m}",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_no_field_ever_reaches_a_shell(peer: Peer, tmp_path: Path, text: str) -> None:
    marker = tmp_path / "marker"
    evil = text.format(m=marker)
    number = INJECTIONS.index(text)
    show = "import sys; print(sys.argv[1:])"
    lines = [
        script(f"DAG-args{number}", show, args=evil.replace("|", "")),
        script(f"DAG-name{number}", show, name=f"{evil.replace('/', '_')}.py"),
        script(f"DAG-{evil}", show),
        script(f"DAG-tag{number}", show, tag=evil),
    ]
    for line in lines:
        reply = peer.submit(line)
        job_id = line.partition("|")[0].strip()
        if reply.ok and peer.status(job_id) != "NULL" and not line.startswith("DAG-tag"):
            assert peer.until(job_id) == "COMPLETED", peer.log(job_id)
    for opcode in (
        Opcode.RUN,
        Opcode.DEPLOY,
        Opcode.STOP,
        Opcode.KILL_WORKER,
        Opcode.GET_LOGS,
        Opcode.FETCH_ASSET,
    ):
        peer.ask(opcode, f"{evil}|{evil}")
    assert not marker.exists()
    peer.cancel(f"DAG-tag{number}")


# ---------------------------------------------------------------------- secrets


def test_a_job_sees_none_of_the_masters_settings(peer: Peer) -> None:
    code = "import os, json; print(json.dumps(dict(os.environ)))"
    assert peer.submit(script("DAG-env", code)).ok
    assert peer.until("DAG-env") == "COMPLETED"
    environment = json.loads(peer.log("DAG-env"))
    assert "the-token-of-the-master" not in repr(environment)
    names = {name for name in environment if name.startswith("TITAN_")}
    told = {
        "TITAN_WORKER",
        "TITAN_HOST",
        "TITAN_PORT",
        "TITAN_RUN",
        "TITAN_WORKER_PROCESS",
        "TITAN_KEEP_ALIVE",
        "TITAN_RUNTIME_AWAY_PATIENCE",
        "TITAN_RUNTIME_ENDS",
        "TITAN_RUNTIME_ENVIRONMENTS",
        "TITAN_RUNTIME_LOG_LIMIT",
        "TITAN_RUNTIME_SOCKET",
    }
    assert names <= told


def test_what_a_master_writes_is_for_its_user_only(cluster: LocalCluster, peer: Peer) -> None:
    peer.submit(script("DAG-files", "print('x')"))
    assert peer.until("DAG-files") == "COMPLETED"
    assert cluster.data_dir.stat().st_mode & 0o077 == 0
    for folder in ("logs", "uploads", "perm_files", "workers", "ends"):
        assert (cluster.data_dir / folder).stat().st_mode & 0o077 == 0


def test_a_pipelining_peer_without_hello_gets_one_answer(peer: Peer) -> None:
    with peer.connect() as sock:
        sock.sendall(frame(Opcode.KV_GET, "k") + frame(Opcode.KV_SET, "smuggled|yes"))
        assert read_reply(sock).text == "NULL"
        assert sock.recv(1) == b""
    assert peer.ask(Opcode.KV_GET, "smuggled").text == "NULL"
