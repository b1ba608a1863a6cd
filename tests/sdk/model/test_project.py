"""What a job runs of its project, and the sentences for what it cannot."""

from __future__ import annotations

import pytest

from titan_sdk import InvalidJob, TitanJob


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "team"
    for name in (
        "main.py",
        "jobs/run.py",
        "pkg/__init__.py",
        "pkg/train.py",
        "tool/__main__.py",
        "space/deep/go.py",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return root


@pytest.mark.parametrize(
    ("given", "entry"),
    [
        ({"filename": "main.py"}, "main.py"),
        ({"filename": "./jobs//run.py"}, "jobs/run.py"),
        ({"filename": "jobs/../main.py"}, "main.py"),
        ({"module": "pkg.train"}, "pkg/train.py"),
        ({"module": "tool"}, "tool/__main__.py"),
        ({"module": "main"}, "main.py"),
        ({"module": "space.deep.go"}, "space/deep/go.py"),
        ({"module": "torch.distributed.run"}, None),
        ({"module": "space.elsewhere"}, None),
        ({"source": "pass"}, None),
        ({"source": "pass", "filename": "../shown.py"}, None),
    ],
)
def test_what_a_job_runs_of_its_project(folder, given, entry):
    job = TitanJob("a", project=folder, **given)
    assert (job.entry, job.project, job.project_key) == (entry, str(folder), f"{folder}/")
    assert job.read_script() == (b"pass" if "source" in given else b"")


def test_a_file_may_be_named_by_its_whole_path(folder):
    assert TitanJob("a", folder / "jobs" / "run.py", project=folder).entry == "jobs/run.py"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "nothing says what to run; give its path (filename), its text (source), or a module"),
        ({"filename": "main.py", "module": "pkg.train"}, "filename and module exclude each other"),
        ({"source": "pass", "module": "pkg.train"}, "source and module exclude each other"),
        ({"filename": "p.zip/main.py", "is_archive": True}, "project and is_archive exclude each other"),
        ({"filename": "main.py", "runtime": False}, "needs the runtime"),
        ({"filename": "main.py", "job_type": "SERVICE", "port": 8000}, "needs the runtime"),
        ({"filename": "main.py", "cwd": "home"}, "cwd 'home' is neither 'project' nor 'worker'"),
        ({"filename": "main.py", "cwd": None}, "cwd None is neither"),
        ({"filename": "../main.py"}, "filename '../main.py' lies outside the project"),
        ({"filename": "/etc/passwd"}, "lies outside the project"),
        ({"filename": "gone.py"}, "filename 'gone.py' is no file of the project"),
        ({"filename": "jobs"}, "'jobs' is a folder of the project; name the file to run"),
        ({"filename": "tool"}, "Its __main__.py is run by module="),
        ({"module": "pkg/train.py"}, "module 'pkg/train.py' is a file"),
        ({"module": "pkg.train.py"}, "is a file"),
        ({"module": "pkg..train"}, "is not a module's name"),
        ({"module": ""}, "is not a text"),
        ({"module": 3}, "is not a text"),
        ({"module": "pkg.gone"}, "write pkg/gone.py, or correct the name"),
        ({"module": "pkg"}, "it is a package without a __main__.py"),
        ({"module": "main.part"}, "module 'main.part' cannot be run of the project"),
        ({"filename": "main.py", "project": 3}, "project 3 is not a path"),
        ({"filename": "main.py", "project": ""}, "project is empty"),
        ({"filename": "main.py", "project": "/gone"}, "project '/gone' is no folder of this machine"),
    ],
)
def test_what_cannot_run_is_refused(folder, given, sentence):
    with pytest.raises(InvalidJob) as caught:
        TitanJob("a", **{"project": folder, **given})
    assert sentence in str(caught.value)


def test_a_file_is_no_project_and_a_path_from_here_is_understood(folder, monkeypatch):
    with pytest.raises(
        InvalidJob, match="is a file; give the folder that it lies in, and the file as filename"
    ):
        TitanJob("a", "main.py", project=folder / "main.py")
    monkeypatch.chdir(folder.parent)
    with pytest.raises(
        InvalidJob, match=r"filename 'team/jobs/run\.py' is no file of the project 'team'; 'jobs/run\.py' is"
    ):
        TitanJob("a", "team/jobs/run.py", project="team")


def test_a_module_needs_no_project():
    assert TitanJob("a", module="http.server").entry is None
    with pytest.raises(InvalidJob, match=r"module 'http\.server' needs the runtime"):
        TitanJob("a", module="http.server", runtime=False)
    with pytest.raises(InvalidJob, match="module and is_archive exclude"):
        TitanJob("a", module="x", is_archive=True)
