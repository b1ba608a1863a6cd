from __future__ import annotations

from pathlib import Path

import pytest

from titan_sdk.cluster.artifacts import FileArea, OutsideArea


@pytest.fixture
def area(tmp_path: Path) -> FileArea:
    (tmp_path / "area").mkdir()
    (tmp_path / "secret").write_text("secret")
    return FileArea(tmp_path / "area")


@pytest.mark.parametrize("name", ["a.txt", "with space;[x]\nnewline", "é 日本", "/absolute.txt", "q/../x"])
def test_a_file_comes_back_as_it_was(area: FileArea, name: str) -> None:
    area.write(name, b"\0one")
    area.write(name, b"two")
    assert area.read(name) == b"two"


@pytest.mark.parametrize("name", ["../secret", "/../secret", "a/../../secret", "", ".", "..", "nul\0"])
def test_a_name_outside_is_refused(area: FileArea, name: str) -> None:
    with pytest.raises(OutsideArea):
        area.read(name)
    with pytest.raises(OutsideArea):
        area.write(name, b"")


def test_a_link_out_of_the_area_is_refused(area: FileArea, tmp_path: Path) -> None:
    (tmp_path / "area" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OutsideArea):
        area.read("link")


def test_a_write_that_fails_leaves_nothing_behind(area: FileArea, tmp_path: Path) -> None:
    (tmp_path / "area" / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        area.write("folder", b"x")
    with pytest.raises(FileNotFoundError):
        area.write("missing/x", b"x")
    assert [path.name for path in (tmp_path / "area").iterdir()] == ["folder"]


def test_a_script_is_found_by_its_base_name_anywhere(area: FileArea, tmp_path: Path) -> None:
    (tmp_path / "area" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "area" / "deep" / "er" / "s.py").write_text("")
    assert area.find("s.py") == "deep/er/s.py"
    assert area.find("t.py") is None
