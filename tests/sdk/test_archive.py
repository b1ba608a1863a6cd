"""What travels of a project folder; what cannot is refused with its path, and nothing is left out without a word."""

from __future__ import annotations

import io
import os
import re
import socket
import zipfile

import pytest

from titan_sdk import InvalidArgument, archive
from titan_sdk.archive import zip_folder
from titan_sdk.runtime.worker import limits


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.py").write_text("pass")
    return folder


def names(folder):
    target = io.BytesIO()
    zip_folder(folder, target)
    return zipfile.ZipFile(target).namelist()


def refused(folder, pattern):
    with pytest.raises(InvalidArgument, match=pattern):
        names(folder)


def test_links_inside_the_folder_travel_as_what_they_lead_to(project):
    (project / "src").mkdir()
    (project / "src" / "a.py").write_text("A = 1")
    (project / "lib").symlink_to("src")
    (project / "b.py").symlink_to("src/a.py")
    (project / "absolute").symlink_to(project / "lib" / "a.py")
    assert names(project) == ["absolute", "b.py", "main.py", "lib/a.py", "src/a.py"]


def test_a_folder_that_is_itself_a_link_is_what_it_leads_to(project, tmp_path):
    (tmp_path / "link").symlink_to(project)
    (project / "again.py").symlink_to(tmp_path / "link" / "main.py")
    assert names(tmp_path / "link") == ["again.py", "main.py"]


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("/usr", r"'.*/project/link' is a link out of the folder, to '/usr'; copy the folder into it"),
        ("../outside.txt", r"is a link out of the folder, to '.*outside\.txt'; copy the file into it"),
        ("../project-2", r"is a link out of the folder"),
        ("gone", r"is a link to 'gone', which leads nowhere \(No such file"),
        ("link", r"is a link to 'link', which leads nowhere \(Too many levels"),
        (".", r"is a link to a folder that it lies in"),
    ],
)
def test_links_that_cannot_travel_are_refused_unless_they_are_ignored(project, tmp_path, target, sentence):
    (tmp_path / "outside.txt").write_text("x")
    (tmp_path / "project-2").mkdir()
    (project / "link").symlink_to(target)
    refused(project, sentence + r".*\.titanignore")
    for rule in ("link", "link/", "li*"):
        (project / ".titanignore").write_text(rule)
        assert names(project) == ["main.py"]


def test_links_that_lead_in_a_circle_are_refused(project):
    (project / "a").mkdir()
    (project / "b").mkdir()
    (project / "a" / "to_b").symlink_to("../b")
    (project / "b" / "to_a").symlink_to("../a")
    refused(project, "'.*/a/to_b/to_a' is a link to a folder that it lies in")


def test_folders_that_are_empty_or_become_so_travel_unless_they_are_ignored(project):
    for name in ("empty/deep", "logs", "data", "__pycache__"):
        (project / name).mkdir(parents=True)
    (project / "logs" / "a.log").write_text("x")
    (project / "data" / "a.log").write_text("x")
    (project / ".titanignore").write_text("*.log\ndata/\n")
    assert names(project) == ["main.py", "empty/deep/", "logs/"]


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-8"])
def test_an_ignore_file_may_begin_with_a_byte_order_mark(project, mark):
    (project / "größe.txt").write_text("x")
    (project / ".titanignore").write_text("größe.txt\r\n", encoding=mark)
    assert names(project) == ["main.py"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a\ngr\xf6\xdfe\n".encode("latin-1"), "line 2, is not UTF-8; save the file as UTF-8"),
        ("a\n".encode("utf-16"), "line 1, is not UTF-8"),
        (b"a\n!\n", "line 2: '!' is no pattern"),
    ],
)
def test_an_ignore_file_that_cannot_be_read_is_refused_by_line(project, content, sentence):
    (project / ".titanignore").write_bytes(content)
    refused(project, re.escape("/.titanignore', " + sentence))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [(b"gr\xf6\xdfe.py", r"'.*gr\\udcf6\\udcdfe\.py' is not UTF-8"), (b"a\\b.py", "has a backslash")],
)
def test_names_that_a_zip_cannot_carry_are_refused(project, name, sentence):
    (project / os.fsdecode(name)).write_text("x")
    refused(project, f"the name of .*{sentence}.*; rename it")
    (project / ".titanignore").write_text("gr*.py\na*.py\n")
    assert names(project) == ["main.py"]


def test_a_file_or_folder_that_cannot_be_read_is_refused(project, monkeypatch):
    """Asked of a folder whose reader lacks the right; root has every right, so the system call is made to refuse."""
    (project / "secret").mkdir()
    real = os.listdir

    def listdir(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    refused(project, r"'.*/project/secret' cannot be read \(Permission denied\)")
    (project / ".titanignore").write_text("secret/\n")
    assert names(project) == ["main.py"]


def test_what_is_neither_file_nor_folder_stays_behind(project, monkeypatch):
    monkeypatch.chdir(project)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        assert names(project) == ["main.py"]


def test_the_bytes_depend_on_contents_names_and_the_executable_bit_only(project, tmp_path):
    def packed(folder):
        target = io.BytesIO()
        zip_folder(folder, target)
        return target.getvalue()

    (project / "sub").mkdir()
    (project / "sub" / "run").write_text("#!/bin/sh\n")
    (project / "sub" / "run").chmod(0o755)
    (project / "empty").mkdir()
    other = tmp_path / "copy"
    (other / "empty").mkdir(parents=True, mode=0o700)
    (other / "sub").mkdir()
    (other / "sub" / "run").write_text("#!/bin/sh\n")
    (other / "main.py").write_text("pass")
    (other / "sub" / "run").chmod(0o700)
    (other / "main.py").chmod(0o600)
    os.utime(other / "main.py", (1, 1))
    assert packed(project) == packed(other)
    (other / "main.py").chmod(0o700)
    assert packed(project) != packed(other)


def packed(folder, **options):
    return sorted(archive.zip_folder(folder, io.BytesIO(), archive.PROJECT_IGNORE_FILES, **options))


def test_a_project_without_a_titanignore_leaves_out_what_git_does(project):
    (project / ".gitignore").write_text("*.log\n/data/\n!keep.log\n")
    (project / "data").mkdir()
    for name in ("a.log", "keep.log", "data/big.bin"):
        (project / name).write_text("x")
    assert names(project) == [".gitignore", "a.log", "keep.log", "main.py", "data/big.bin"]
    assert packed(project) == ["keep.log", "main.py"]
    (project / ".titanignore").write_text("main.*")
    assert packed(project) == [".gitignore", "a.log", "data/big.bin", "keep.log"]


def test_below_a_folder_that_stays_behind_nothing_is_looked_at(project):
    (project / ".gitignore").write_text("env/")
    (project / "env" / "deep").mkdir(parents=True)
    (project / "env" / "out").symlink_to("/usr/bin/env")
    (project / "env" / "deep" / "keep.py").write_text("x")
    assert packed(project) == ["main.py"]
    (project / "env" / "out").unlink()
    (project / ".gitignore").write_text("env/\n!env/deep/keep.py")
    assert packed(project) == ["env/deep/keep.py", "main.py"]


def test_advice_names_the_file_that_is_in_force(project):
    (project / "link").symlink_to("gone")
    (project / ".gitignore").write_text("*.log")
    with pytest.raises(InvalidArgument, match=r"or name it in \.gitignore"):
        packed(project)


@pytest.mark.parametrize(
    ("limit", "value", "sentence"),
    [
        (
            "LARGEST",
            1000,
            r"has 2,004 bytes in 4 .*Most of it is data/ \(1,500 bytes\), model\.bin \(500 bytes\)",
        ),
        (
            "MOST_FILES",
            3,
            r"in 4 files and folders; .*Most of it is data/ \(2 files\), .*: name in \.titanignore",
        ),
    ],
)
def test_a_project_that_is_too_large_is_refused_with_its_biggest_entries(
    project, mocker, limit, value, sentence
):
    (project / "data" / "raw").mkdir(parents=True)
    (project / "data" / "a").write_bytes(bytes(700))
    (project / "data" / "raw" / "b").write_bytes(bytes(800))
    (project / "model.bin").write_bytes(bytes(500))
    mocker.patch.object(archive, limit, value)
    with pytest.raises(InvalidArgument, match=sentence):
        packed(project, bounded=True)
    assert len(packed(project)) == 4


def test_the_limits_are_the_workers(project):
    assert (archive.LARGEST, archive.MOST_FILES) == (limits.PROJECT_SIZE, limits.PROJECT_FILES)
    (project / ".titanignore").write_text("*")
    with pytest.raises(
        InvalidArgument, match=r"has no files to upload that \.titanignore does not leave out"
    ):
        packed(project)
