"""Artifacts, archives and deployed scripts."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile

import pytest

from titan_sdk import InvalidArgument, JobStatus, MissingFile, NotFound, PayloadTooLarge, TitanJob


@pytest.mark.parametrize("size", [0, 1, 3_000_001], ids=["empty", "one byte", "3 MB"])
def test_a_file_comes_back_as_it_was(api, unique, tmp_path, size):
    content = os.urandom(size)
    path = tmp_path / unique("data.bin")
    path.write_bytes(content)
    ref = api.upload_file(path)
    assert (ref.name, ref.bytes, ref.sha256) == (path.name, size, hashlib.sha256(content).hexdigest())
    saved = api.fetch_artifact(ref.name, tmp_path / "deep" / "copy.bin")
    assert saved.read_bytes() == content


def test_content_that_looks_like_an_error_comes_back(api, unique, tmp_path):
    path = tmp_path / unique("tricky")
    path.write_bytes(base64.b64decode("ERRORabc"))
    api.upload_file(path)
    assert api.fetch_artifact(path.name, tmp_path / "copy").read_bytes() == path.read_bytes()


def test_an_absent_artifact_is_not_found_and_writes_nothing(api, unique, tmp_path):
    target = tmp_path / "never"
    with pytest.raises(NotFound, match="the master has no artifact of that name"):
        api.fetch_artifact(unique("absent"), target)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../secret", "a/../../b", "/etc/passwd", ""])
def test_names_that_lead_out_of_the_registry_are_refused(api, name):
    with pytest.raises(InvalidArgument, match="is not the name of an artifact"):
        api.fetch_artifact(name, "copy")


def test_a_missing_file_is_refused_before_sending(api):
    for call in (api.upload_file, api.upload_project_folder, api.deploy_script):
        with pytest.raises(MissingFile, match="there is no f"):
            call("nowhere/nothing.bin")


def test_a_file_over_the_packet_limit_is_refused_with_the_limit(api, tmp_path, capabilities):
    if "chunked_artifacts" in capabilities:
        pytest.skip("the master announces chunked_artifacts: no such limit")
    path = tmp_path / "big.bin"
    with path.open("wb") as file:
        file.truncate(7_900_000)
    with pytest.raises(PayloadTooLarge, match=r"a file of up to 7,86\d,\d\d\d bytes fits"):
        api.upload_file(path)


def test_publish_and_get(api, unique, tmp_path):
    path, key = tmp_path / unique("report.md"), unique("key")
    path.write_text("# report")
    api.publish_artifact(key, path)
    assert api.get_artifact(key, tmp_path / "copy.md").read_text() == "# report"
    with pytest.raises(NotFound, match="nothing is published under"):
        api.get_artifact(unique("nothing"))


def test_deploy_script_takes_a_file(api, unique, tmp_path):
    path = tmp_path / f"{unique('deployed')}.py"
    path.write_text("print('deployed')")
    assert api.deploy_script(path).name == path.name


def test_an_archive_job_runs_its_entry(api, unique, tmp_path):
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "main.py").write_text("import helper; print('archive says', helper.WORD)")
    (project / "src" / "helper.py").write_text("WORD = 'hello'")
    (project / "__pycache__").mkdir()
    (project / "__pycache__" / "junk.pyc").write_bytes(b"x")
    name = unique("project")
    assert api.upload_project_folder(project, name).name == f"{name}.zip"
    handle = api.submit_job(TitanJob(unique("archive"), f"{name}.zip/src/main.py", is_archive=True))
    assert handle.wait(timeout=300).state is JobStatus.COMPLETED
    assert "archive says hello" in "\n".join(handle.follow_logs())


def test_the_same_folder_gives_the_same_bytes(api, unique, tmp_path):
    project = tmp_path / "same"
    project.mkdir()
    (project / "a.py").write_text("pass")
    first = api.upload_project_folder(project, unique("x"))
    os.utime(project / "a.py", (1, 1))
    assert api.upload_project_folder(project, unique("x")).sha256 == first.sha256


def test_what_the_ignore_file_names_stays_behind(api, unique, tmp_path):
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / "data" / "huge.bin").write_bytes(b"x" * 1000)
    (project / "main.py").write_text("import os; print(sorted(os.listdir('.')), os.path.exists('data'))")
    (project / ".titanignore").write_text("data/\n*.log\n")
    (project / "debug.log").write_text("noise")
    name = unique("ignored")
    ref = api.upload_project_folder(project, name)
    saved = api.fetch_artifact(ref.name, tmp_path / "copy.zip")
    assert zipfile.ZipFile(saved).namelist() == ["main.py"]


def test_progress_ends_at_the_whole_size(api, unique, tmp_path):
    path = tmp_path / unique("file")
    path.write_bytes(os.urandom(100_000))
    seen: list[tuple[int, int]] = []
    api.upload_file(path, progress=lambda done, size: seen.append((done, size)))
    api.fetch_artifact(path.name, tmp_path / "copy", progress=lambda done, size: seen.append((done, size)))
    assert seen.count((100_000, 100_000)) == 2


@pytest.mark.needs("chunked_artifacts")
def test_a_file_over_the_packet_limit_travels_in_chunks(api, unique, tmp_path):
    path = tmp_path / unique("large.bin")
    with path.open("wb") as file:
        for index in range(30):
            file.write(bytes([index]) * 1_000_000)
    ref = api.upload_file(path)
    assert ref.bytes == 30_000_000
    saved = api.fetch_artifact(ref.name, tmp_path / "copy")
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == ref.sha256
