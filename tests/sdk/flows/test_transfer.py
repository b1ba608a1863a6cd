"""Artifacts: whole on a real master, in chunks on the bundled one; what arrives is what was sent or nothing."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import (
    ClientConfig,
    ConnectionLost,
    CorruptData,
    InvalidArgument,
    MissingFile,
    NotFound,
    PayloadTooLarge,
    RequestRefused,
    StoreUnavailable,
)
from titan_sdk.flows import artifacts
from titan_sdk.session import Session
from titan_sdk.wire.extensions import CHUNK_SIZE, AssetWrite
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture
def session():
    return Session(ClientConfig())


class Registry(MasterModel):
    """A real master's registry."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, str] = {}

    def __call__(self, call):
        if call.opcode is Opcode.UPLOAD_ASSET:
            name, _, self.files[name] = (lambda parts: (parts[0], None, parts[2]))(
                call.payload.partition("|")
            )
            return "UPLOAD_SUCCESS"
        if call.opcode is Opcode.FETCH_ASSET:
            return self.files.get(call.payload, "ERROR_NOT_FOUND")
        return super().__call__(call)


def test_a_file_travels_whole_to_a_real_master_and_back(session, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)))
    runner, seen = FlowRunner(Registry()), []
    ref = runner.run(artifacts.upload_file(session, path, lambda done, size: seen.append((done, size))))
    assert ref.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    saved = runner.run(
        artifacts.fetch_artifact(session, "a.bin", tmp_path / "deep" / "b.bin", lambda *at: seen.append(at))
    )
    assert saved.read_bytes() == path.read_bytes()
    assert seen == [(256, 256), (256, 256)]
    with pytest.raises(NotFound):
        runner.run(artifacts.fetch_artifact(session, "gone", tmp_path / "c"))


def test_a_file_over_a_real_masters_limit_is_refused_before_it_is_read(session, tmp_path):
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(8_000_000)
    runner = FlowRunner(Registry())
    with pytest.raises(PayloadTooLarge, match="a file of up to 7,864,3"):
        runner.run(artifacts.upload_file(session, path))
    assert not runner.sent(Opcode.UPLOAD_ASSET)


def chunked(content, sha256, piece):
    """A bundled master that sends the content in pieces, under the checksum it claims."""

    def answer(call):
        if call.opcode is Opcode.HELLO:
            return '{"server":"x","version":"1","features":["chunked_artifacts"]}'
        offset = json.loads(call.payload)["offset"]
        head = json.dumps({"size": len(content), "sha256": sha256})
        return f"{head}\n{content[offset : offset + piece]}"

    return FlowRunner(answer)


def test_chunks_are_put_together_and_verified(session, tmp_path):
    digest = hashlib.sha256(b"0123456789").hexdigest()
    runner = chunked("0123456789", digest, 4)
    assert runner.run(artifacts.fetch_artifact(session, "x", tmp_path / "x")).read_text() == "0123456789"
    assert len(runner.calls) == 4


@pytest.mark.parametrize("piece", [4, 0])
def test_content_of_another_checksum_leaves_no_file(session, tmp_path, piece):
    runner = chunked("0123456789", "0" * 64, piece)
    with pytest.raises(CorruptData, match=f"{10 if piece else 0} bytes arrived, but not those of checksum"):
        runner.run(artifacts.fetch_artifact(session, "x", tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a|b", "x/y", "a\0b"])
def test_names_that_cannot_be_an_artifacts_are_refused(session, tmp_path, name):
    with pytest.raises(InvalidArgument, match="cannot be an artifact's name"):
        FlowRunner(Registry()).run(artifacts.upload_project_folder(session, tmp_path, name))


def test_a_project_name_at_which_titan_would_cut_is_refused(session, tmp_path):
    with pytest.raises(InvalidArgument, match=r"holds '\.zip', at which Titan would cut"):
        FlowRunner(Registry()).run(artifacts.upload_project_folder(session, tmp_path, "my.zip.v2"))


def test_a_folder_without_files_or_with_a_link_out_of_it_is_refused(session, tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    with pytest.raises(InvalidArgument, match="has no files to upload"):
        FlowRunner(Registry()).run(artifacts.upload_project_folder(session, folder))
    (tmp_path / "secret").write_text("x")
    (folder / "sub" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidArgument, match="is a link out of the folder"):
        FlowRunner(Registry()).run(artifacts.upload_project_folder(session, folder))


def test_what_is_not_a_file_is_not_packed(session, tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.txt").write_text("x")
    master = Registry()
    FlowRunner(master).run(artifacts.upload_project_folder(session, tmp_path, "p"))
    assert b"pipe" not in base64.b64decode(master.files["p.zip"])


class Assembling(MasterModel):
    """A bundled master that takes chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[AssetWrite] = []

    def __call__(self, call):
        if call.opcode is Opcode.HELLO:
            return '{"server":"x","version":"1","features":["chunked_artifacts"]}'
        if call.opcode is Opcode.ASSET_WRITE:
            self.received.append(AssetWrite.decode(call.payload))
            return json.dumps({"size": sum(len(chunk.content) for chunk in self.received)})
        return super().__call__(call)


@pytest.mark.parametrize(("size", "chunks"), [(0, 1), (CHUNK_SIZE, 1), (CHUNK_SIZE + 1, 2)])
def test_a_file_is_sent_in_chunks_of_which_the_last_one_bears_the_checksum(session, tmp_path, size, chunks):
    path, seen = tmp_path / "a.bin", []
    path.write_bytes(bytes(size))
    master = Assembling()
    ref = FlowRunner(master).run(artifacts.upload_file(session, path, lambda *at: seen.append(at)))
    assert (ref.bytes, ref.sha256) == (size, hashlib.sha256(bytes(size)).hexdigest())
    assert [chunk.sha256 for chunk in master.received] == [None] * (chunks - 1) + [ref.sha256]
    assert len({chunk.upload for chunk in master.received}) == 1
    assert seen[-1] == (size, size)


def test_what_is_published_is_got_by_its_key(session, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("content")
    runner = FlowRunner(Registry())
    runner.run(artifacts.publish_artifact(session, "k", path))
    assert runner.run(artifacts.get_artifact(session, "k", tmp_path / "b.txt")).read_text() == "content"
    runner._answer.kv["k"] = "CLEARED"
    for key in ("k", "none"):
        with pytest.raises(NotFound, match="nothing is published under"):
            runner.run(artifacts.get_artifact(session, key))


def test_what_is_published_is_unknown_while_the_store_is_away(session):
    """A real master says NULL of every key then, and OK to every write."""
    down = {Opcode.KV_SET: "OK", Opcode.KV_GET: "NULL"}
    runner = FlowRunner(lambda call: down.get(call.opcode) or Registry()(call))
    with pytest.raises(StoreUnavailable, match="nobody knows what is published under 'k'; try again"):
        runner.run(artifacts.get_artifact(session, "k"))


def test_a_script_is_deployed_under_its_base_name(session, tmp_path):
    path = tmp_path / "a.py"
    path.write_text("pass")
    sent = []
    ref = FlowRunner(lambda call: sent.append(call.payload) or "DEPLOY_SUCCESS").run(
        artifacts.deploy_script(path)
    )
    assert (ref.name, sent) == ("a.py", ["a.py|cGFzcw=="])
    with pytest.raises(MissingFile, match="there is no file"):
        FlowRunner(Registry()).run(artifacts.deploy_script(tmp_path / "gone.py"))


@pytest.mark.parametrize("name", ["../a", "/a", " a", "", "a\0"])
def test_names_outside_the_registry_are_not_asked_for(session, tmp_path, name):
    runner = FlowRunner(Registry())
    with pytest.raises(InvalidArgument, match="is not the name of an artifact"):
        runner.run(artifacts.fetch_artifact(session, name, tmp_path / "x"))
    assert runner.calls == []


class Doubtful(Assembling):
    """Its reply to the last chunk is lost, and nobody knows any more whether that was carried out."""

    def __init__(self, there: bytes | None) -> None:
        super().__init__()
        self.there = there

    def __call__(self, call):
        if call.opcode is Opcode.ASSET_READ:
            if self.there is None:
                return "ERROR_NOT_FOUND"
            head = {"size": len(self.there), "sha256": hashlib.sha256(self.there).hexdigest()}
            return json.dumps(head) + "\n"
        reply = super().__call__(call)
        if call.opcode is Opcode.ASSET_WRITE and self.received[-1].sha256 is not None:
            raise ConnectionLost("lost")
        return reply


@pytest.mark.parametrize("there", [b"mine", b"theirs", None])
def test_a_doubtful_upload_is_settled_by_what_is_there(session, tmp_path, there):
    path = tmp_path / "a.bin"
    path.write_bytes(b"mine")
    runner = FlowRunner(Doubtful(there))
    if there == b"mine":
        assert runner.run(artifacts.upload_file(session, path)).bytes == 4
        return
    with pytest.raises(ConnectionLost):
        runner.run(artifacts.upload_file(session, path))


@pytest.mark.parametrize(
    ("times", "reason"), [(4, "begin again at offset 0"), (5, "begin again at offset 0"), (1, "full")]
)
def test_an_upload_that_the_master_has_forgotten_begins_again(session, tmp_path, times, reason):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(CHUNK_SIZE + 5))
    master, left = Assembling(), [times]

    def answer(call):
        if call.opcode is Opcode.ASSET_WRITE and AssetWrite.decode(call.payload).offset and left[0]:
            left[0] -= 1
            master.received.clear()
            return f"ERROR: {reason}"
        return master(call)

    if (times, reason) == (4, "begin again at offset 0"):
        assert FlowRunner(answer).run(artifacts.upload_file(session, path)).bytes == CHUNK_SIZE + 5
        assert b"".join(chunk.content for chunk in master.received) == path.read_bytes()
        return
    with pytest.raises(RequestRefused, match=reason):
        FlowRunner(answer).run(artifacts.upload_file(session, path))
