"""Each kind of place for artifacts; the same tests for all."""

from __future__ import annotations

import hashlib
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from titan_sdk import TitanClient
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.artifacts import Area, FileArea, OutsideArea, open_area, shown_url
from titan_sdk.errors import InvalidArgument


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Where a server that speaks S3 listens: moto's, over HTTP, with one bucket."""
    pytest.importorskip("s3fs", reason="needs the packages s3fs and moto[server]")
    moto = pytest.importorskip("moto.server", reason="needs the packages s3fs and moto[server]")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with urllib.request.urlopen(
        urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT"), timeout=120
    ):
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def url(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A place of its own, as users name it."""
    fsspec = pytest.importorskip("fsspec", reason="needs the package fsspec")
    if kind != "s3":
        yield f"memory://{uuid.uuid4().hex}" if kind == "memory" else f"file://{tmp_path}"
        return
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # Connections are kept per process, with the address they were made for.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield f"s3://bucket/{uuid.uuid4().hex}"
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def area(kind: str, url: str, tmp_path: Path) -> Area:
    (tmp_path / "area").mkdir()
    (tmp_path / "secret").write_text("secret")
    if kind == "folder":
        return FileArea(tmp_path / "area")
    return open_area(url, "area", tmp_path / "scratch")


@pytest.mark.parametrize("name", ["a.txt", "with space;[x]\nnewline", "é 日本", "/absolute.txt", "q/../x"])
def test_a_file_comes_back_as_it_was(area: Area, kind: str, name: str) -> None:
    if kind == "s3" and "\n" in name:
        pytest.skip("moto finds no name with a line break")
    area.write(name, b"\0one")
    area.write(name, b"two")
    assert area.read(name) == b"two"


@pytest.mark.parametrize("name", ["../secret", "/../secret", "a/../../secret", "", ".", "..", "nul\0"])
def test_a_name_outside_is_refused(area: Area, name: str) -> None:
    with pytest.raises(OutsideArea):
        area.read(name)
    with pytest.raises(OutsideArea):
        area.write(name, b"")


def test_a_link_out_of_the_area_is_refused(area: Area, kind: str, tmp_path: Path) -> None:
    if kind in {"memory", "s3"}:
        pytest.skip("there are no links there")
    (tmp_path / "area" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OutsideArea):
        area.read("link")


def test_a_write_that_fails_leaves_nothing_behind(area: Area, kind: str, tmp_path: Path) -> None:
    if kind in {"memory", "s3"}:
        pytest.skip("there is no folder that a client could meet")
    (tmp_path / "area" / "folder").mkdir()
    with pytest.raises(OSError, match=r"folder|directory"):
        area.write("folder", b"x")
    with pytest.raises(FileNotFoundError):
        area.write("missing/x", b"x")
    left = [path.name for path in (tmp_path / "area").rglob("*") if path.name != ".parts"]
    assert left == ["folder"]


def test_a_file_that_is_not_there_is_not_found(area: Area) -> None:
    for read in (
        area.read,
        lambda name: area.open(name).__enter__(),
        lambda name: area.local(name).__enter__(),
    ):
        with pytest.raises(FileNotFoundError):
            read("nothing")
    assert area.find("nothing") is None


def test_a_large_file_is_taken_and_read_in_pieces(area: Area, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 20_000)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    area.write("big", b"before")
    with area.open("big") as found:
        before = found.version
    area.take("big", source)
    assert not source.exists()
    with area.open("big") as found:
        assert found.size == 256 * 20_000
        assert found.version != before
        found.file.seek(300)
        assert found.file.read(4) == bytes([44, 45, 46, 47])
    with area.local("big") as path:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_a_script_is_found_by_its_base_name_anywhere(area: Area, kind: str, tmp_path: Path) -> None:
    if kind in {"memory", "s3"}:
        area.write("s.py", b"")
        assert area.find("s.py") == "s.py"
        return
    (tmp_path / "area" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "area" / "deep" / "er" / "s.py").write_text("")
    assert area.find("s.py") == "deep/er/s.py"
    assert area.find("t.py") is None


@pytest.mark.parametrize("kind", ["file", "s3"], indirect=True)
def test_another_master_finds_the_artifacts_of_the_first(url: str, tmp_path: Path) -> None:
    """Written through one master, read through another with another folder, in one request and in chunks."""
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"few")
    large.write_bytes(bytes(range(256)) * 40_000)
    url += "/shared"
    with LocalCluster(artifacts=url) as first, TitanClient(first.host, first.port) as client:
        client.upload_file(small)
        client.upload_file(large)
    with LocalCluster(artifacts=url) as second, TitanClient(second.host, second.port) as client:
        for file in (small, large):
            copy = client.fetch_artifact(file.name, tmp_path / "copy")
            assert copy.read_bytes() == file.read_bytes()


def test_a_url_that_nothing_can_take_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"artifacts at nonsense://host/x: Protocol not known"):
        open_area("nonsense://me:secret@host/x", "uploads", tmp_path)
    assert shown_url("s3://key:secret@bucket/path?x=1") == "s3://bucket/path"
