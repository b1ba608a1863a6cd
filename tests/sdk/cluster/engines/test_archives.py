from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from titan_sdk.cluster.engines.archives import ArchiveRefused, split_pointer, unpack


def make_zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "inside" / "here"
    made.mkdir(parents=True)
    return made


def test_files_and_folders_are_unpacked(tmp_path: Path, folder: Path) -> None:
    unpack(make_zip(tmp_path / "p.zip", **{"a.py": b"1", "deep/er/b.txt": b"2", "empty/": b""}), folder)
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert found == ["a.py", "deep", "deep/er", "deep/er/b.txt", "empty"]


def test_an_executable_stays_one(tmp_path: Path, folder: Path) -> None:
    info = zipfile.ZipInfo("run.sh")
    info.external_attr = (stat.S_IFREG | 0o755) << 16
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr(info, b"true")
    unpack(tmp_path / "p.zip", folder)
    assert (folder / "run.sh").stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize(
    "name", ["../out.py", "a/../../out.py", "/abs.py", "\\abs.py", "..\\out.py", "C:/x.py"]
)
def test_a_member_that_points_outside_is_refused_before_anything_is_written(
    tmp_path: Path, folder: Path, name: str
) -> None:
    make_zip(tmp_path / "p.zip", **{"good.py": b"", name: b"bad"})
    with pytest.raises(ArchiveRefused, match="outside the archive's folder"):
        unpack(tmp_path / "p.zip", folder)
    assert list(folder.iterdir()) == []
    assert not (tmp_path / "inside" / "out.py").exists()


def test_a_link_is_refused(tmp_path: Path, folder: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveRefused, match="link or a device"):
        unpack(tmp_path / "p.zip", folder)


def test_a_bomb_is_stopped_while_it_unpacks(tmp_path: Path, folder: Path) -> None:
    make_zip(tmp_path / "p.zip", zeros=b"\0" * 5_000_000)
    with pytest.raises(ArchiveRefused, match="more than 1,000,000 bytes"):
        unpack(tmp_path / "p.zip", folder, max_bytes=1_000_000)
    assert (folder / "zeros").stat().st_size <= 1_000_000


def test_too_many_members_are_refused(tmp_path: Path, folder: Path) -> None:
    make_zip(tmp_path / "p.zip", **{f"f{n}": b"" for n in range(11)})
    with pytest.raises(ArchiveRefused, match="11 members; the limit is 10"):
        unpack(tmp_path / "p.zip", folder, max_members=10)


def test_what_is_no_zip_or_a_broken_one_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "p.zip").write_bytes(b"PK but no zip")
    with pytest.raises(ArchiveRefused, match="cannot be unpacked"):
        unpack(tmp_path / "p.zip", folder)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"some content " * 100)
    broken = bytearray(buffer.getvalue())
    broken[40:60] = b"x" * 20
    (tmp_path / "p.zip").write_bytes(broken)
    with pytest.raises(ArchiveRefused, match="cannot be unpacked"):
        unpack(tmp_path / "p.zip", folder)


def test_two_members_of_one_name_that_disagree_are_refused(tmp_path: Path, folder: Path) -> None:
    make_zip(tmp_path / "p.zip", **{"a": b"file", "a/b": b"below a file"})
    with pytest.raises(ArchiveRefused, match="cannot be unpacked"):
        unpack(tmp_path / "p.zip", folder)


def test_a_pointer_is_cut_at_the_first_zip() -> None:
    assert split_pointer("p.zip/dir/run.py") == ("p.zip", "dir/run.py")
    assert split_pointer("a.zip/b.zip/x.py") == ("a.zip", "b.zip/x.py")


@pytest.mark.parametrize("pointer", ["p.zip", "p.zip/", ".zip/x.py", "p/x.py", ""])
def test_a_pointer_without_zip_or_entry_is_refused(pointer: str) -> None:
    with pytest.raises(ArchiveRefused, match="does not name an entry"):
        split_pointer(pointer)
