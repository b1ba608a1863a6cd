"""A run's private folder and file, which the next run gets for its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from titan_sdk.cluster.engines import staging


class StagingFolders(staging.StagingFolders):
    """With paths that are easier to ask."""

    def put(self, place: str | Path, name: str, data: bytes) -> Path:  # type: ignore[override]
        return Path(super().put(place, name, data))


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_the_next_run_gets_folder_and_file_of_the_last(tmp_path: Path) -> None:
    folders = StagingFolders()
    first = folders.put(tmp_path / "1", "long.py", b"a longer script")
    was = inode(first)
    folders.give_back(first.parent)
    second = folders.put(tmp_path / "2", "b.py", b"short")
    assert (inode(second), second.read_bytes(), os.listdir(second.parent)) == (was, b"short", ["b.py"])
    assert os.listdir(tmp_path) == ["2"]
    assert second.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("second", [b"", b"short", b"a longer script", b"a script that is longer still"])
def test_nothing_of_a_script_is_left_in_the_next_one(tmp_path: Path, second: bytes) -> None:
    folders = StagingFolders()
    folders.give_back(folders.put(tmp_path / "1", "a.py", b"a longer script").parent)
    assert folders.put(tmp_path / "2", "a.py", second).read_bytes() == second


def link(script: Path) -> None:
    os.link(script, script.parent.parent / "kept")


def replace_by_a_link(script: Path) -> None:
    target = script.parent.parent / "kept"
    target.write_bytes(b"mine")
    script.unlink()
    script.symlink_to(target)


def make_unwritable(script: Path) -> None:
    script.chmod(0o400)


def make_executable(script: Path) -> None:
    script.chmod(0o700)


def leave_more(script: Path) -> None:
    (script.parent / "0.py").write_bytes(b"more")
    (script.parent / "__pycache__").mkdir()


@pytest.mark.parametrize("act", [link, replace_by_a_link, make_unwritable, make_executable, leave_more])
def test_a_job_that_did_something_to_its_file_changes_nothing(
    tmp_path: Path, act: Callable[[Path], None]
) -> None:
    folders = StagingFolders()
    script = folders.put(tmp_path / "1", "a.py", b"mine")
    act(script)
    folders.give_back(script.parent)
    again = folders.put(tmp_path / "2", "a.py", b"another's")
    assert os.listdir(again.parent) == ["a.py"]
    assert again.read_bytes() == b"another's"
    kept = tmp_path / "kept"
    assert not kept.exists() or kept.read_bytes() == b"mine"


def test_a_shell_that_goes_on_reading_its_script_never_reads_the_next_ones(tmp_path: Path) -> None:
    folders = StagingFolders()
    script = folders.put(tmp_path / "1", "a.sh", b"echo one")
    with script.open("rb") as left_behind:
        folders.give_back(script.parent)
        folders.put(tmp_path / "2", "a.sh", b"echo another's")
        assert left_behind.read() == b"echo one"


def test_a_run_that_never_had_a_folder(tmp_path: Path) -> None:
    StagingFolders().give_back(tmp_path / "none")
    assert os.listdir(tmp_path) == []
