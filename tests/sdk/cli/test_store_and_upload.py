"""titan store and titan upload."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import pytest

from tests.support.scripted_peer import ScriptedPeer, reply
from titan_sdk import TitanClient


@pytest.mark.parametrize("value", ["98.5", "grüß|dich, 日本", "", "NULL", "ERROR: x", "a\nb"])
def test_any_text_is_put_and_got(titan, value: str) -> None:
    key = f"cli-{secrets.token_hex(4)}|é"
    assert titan("store", "put", key, "--", value).out == ""
    assert titan("store", "get", key).out == value + "\n"
    assert titan("store", "get", key, "--json").json == {"key": key, "value": value}


def test_put_reads_standard_input(titan) -> None:
    key = f"cli-{secrets.token_hex(4)}"
    assert titan("store", "put", key, "-", "--json", stdin="two\nlines\n").json == {
        "key": key,
        "stored": True,
    }
    assert titan("--json", "store", "get", key).json["value"] == "two\nlines\n"


def test_a_missing_key_is_exit_code_5(titan, client: TitanClient) -> None:
    ran = titan("store", "get", "cli-never-put")
    assert (ran.code, ran.out) == (5, "")
    assert ran.err == f"titan: TitanStore on {client.config.address} has no key 'cli-never-put'\n"


def test_sets_count_and_list_their_members(titan) -> None:
    key = f"cli-{secrets.token_hex(4)}"
    assert titan("store", "smembers", key).out == ""
    assert titan("store", "sadd", key, "b,c").out == "1\n"
    assert titan("store", "sadd", key, "b,c").out == "0\n"
    assert titan("store", "sadd", key, "a", "--json").json == {"key": key, "member": "a", "added": 1}
    assert titan("store", "smembers", key).out == "a\nb,c\n"
    assert titan("store", "smembers", key, "--json").json["members"] == ["a", "b,c"]


def test_a_file_is_uploaded_under_its_name(titan, tmp_path: Path, client: TitanClient) -> None:
    path = tmp_path / f"{secrets.token_hex(4)}.bin"
    path.write_bytes(bytes(range(256)))
    answer = titan("upload", path, "--json").json
    assert answer == {
        "name": path.name,
        "bytes": 256,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert client.fetch_artifact(path.name, tmp_path / "back").read_bytes() == path.read_bytes()
    assert titan("upload", path).out == f"uploaded {path.name} (256 bytes, sha256 {answer['sha256']})\n"


def test_a_folder_is_uploaded_as_a_zip(titan, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.py").write_text("print('hi')\n")
    name = f"cli-{secrets.token_hex(4)}"
    assert titan("upload", folder, "--name", name, "--json").json["name"] == f"{name}.zip"


def test_what_cannot_be_uploaded_is_exit_code_2(titan, tmp_path: Path) -> None:
    assert titan("upload", tmp_path / "gone.bin").code == 2
    path = tmp_path / "file.bin"
    path.write_bytes(b"")
    ran = titan("upload", path, "--name", "x")
    assert (ran.code, ran.err) == (
        2,
        f"titan: --name names a folder's zip, but {str(path)!r} is not a folder\n",
    )


def test_a_file_over_a_real_master_s_packet_limit_is_exit_code_2(bare, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(8_000_000))
    with ScriptedPeer(reply("UNKNOWN_OPCODE: 64")) as peer:
        ran = bare("upload", large, "--host", "127.0.0.1", "--port", peer.port)
    assert ran.code == 2
    assert "but Titan takes at most 10,485,760" in ran.err
    assert [text for _, text in peer.requests] in ([], ['{"v":1}'])
