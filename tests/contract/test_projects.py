"""A project: a folder travels with a job, is on its path and its current folder, and is what it was at the submission."""

from __future__ import annotations

import hashlib
import os
import re

import pytest

from titan_sdk import InvalidDag, InvalidJob, JobFailed, JobStatus, TitanJob

SEEN = """
import json, os, subprocess, sys
import titan_job
from trainer.words import WORD
child = subprocess.run([sys.executable, "-c", "import trainer.words; print(trainer.words.WORD)"],
                       cwd="/", check=True, capture_output=True, text=True).stdout
root = os.environ["TITAN_PROJECT_DIR"]
titan_job.result({
    "word": WORD, "child": child.strip(), "argv": sys.argv[1:], "name": __name__, "package": __package__,
    "cwd": os.path.relpath(os.getcwd(), root), "data": open(os.path.join(root, "data.txt")).read(),
    "path": [os.path.relpath(place, root) for place in sys.path[:2] if place.startswith(root)],
})
"""


@pytest.fixture
def folder(tmp_path):
    """A project as a team has it: a package, a script beside it, and data."""
    root = tmp_path / "team é"
    (root / "trainer").mkdir(parents=True)
    (root / "jobs").mkdir()
    (root / "trainer" / "__init__.py").write_text("")
    (root / "trainer" / "words.py").write_text("WORD = 'hello'")
    (root / "trainer" / "train.py").write_text(SEEN.replace("from trainer.words", "from .words"))
    (root / "jobs" / "run.py").write_text(SEEN)
    (root / "data.txt").write_text("beside")
    return root


def seen(**fields):
    usual = {"word": "hello", "child": "hello", "argv": ["a b", ""], "name": "__main__", "package": None}
    return {**usual, "cwd": ".", "data": "beside", **fields}


def test_a_file_of_a_project_runs_in_its_root(api, unique, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    job = TitanJob(unique("file"), "jobs/run.py", project=folder, args=["a b", ""], requirement="GPU")
    assert api.submit_job(job).wait(timeout=300).result == seen(path=["jobs", "."])
    # It may be read-only.
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_module_of_a_project_runs_as_by_m(api, unique, folder):
    job = TitanJob(unique("module"), module="trainer.train", project=folder, args=["a b", ""])
    assert api.submit_job(job).wait(timeout=300).result == seen(path=["."], package="trainer")


def test_the_workers_folder_may_be_the_current_one(api, unique, folder):
    job = TitanJob(unique("cwd"), "jobs/run.py", project=folder, cwd="worker", args=["a b", ""])
    found = api.submit_job(job).wait(timeout=300).result
    assert found.pop("cwd").startswith("..")
    expected = seen(path=["jobs", "."])
    assert found == {key: value for key, value in expected.items() if key != "cwd"}


def test_a_source_has_the_project_on_its_path(api, unique, folder):
    job = TitanJob(unique("source"), source=SEEN, project=folder, args=["a b", ""])
    found = api.submit_job(job).wait(timeout=300).result
    assert found == seen(path=["."])


def test_a_shell_script_of_a_project_starts_its_modules(api, unique, folder):
    (folder / "run.sh").write_text(
        "cd / && python3 -c 'import trainer.words as w; print(w.WORD, 1)' && echo $1"
    )
    handle = api.submit_job(TitanJob(unique("shell"), "run.sh", project=folder, args=["x y"]))
    handle.wait(timeout=300)
    assert handle.logs() == "hello 1\nx y\n"


def test_a_module_of_the_workers_own_python_runs(api, unique):
    handle = api.submit_job(TitanJob(unique("own"), module="calendar", args=["2026", "11"]))
    handle.wait(timeout=300)
    assert handle.logs().lstrip().startswith("November 2026")


def test_how_a_module_fails_is_told(api, unique, folder):
    (folder / "trainer" / "bad.py").write_text("def f():\n    raise KeyError('no such thing')\n\nf()\n")
    handle = api.submit_job(TitanJob(unique("bad"), module="trainer.bad", project=folder))
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert (report.exit_code, report.exception.type) == (1, "KeyError")
    assert re.search(r'trainer/bad\.py", line 2, in f', report.exception.traceback)
    assert "_titan_runner" not in report.exception.traceback + handle.logs()


def test_a_module_that_nobody_has_is_told_as_by_m(api, unique, folder):
    handle = api.submit_job(TitanJob(unique("gone"), module="nowhere.train", project=folder))
    with pytest.raises(JobFailed, match="exit code 1"):
        handle.wait(timeout=300)
    assert "No module named 'nowhere'" in handle.logs() or "No module named nowhere" in handle.logs()


def test_files_called_like_modules_are_the_projects_alone(api, unique, tmp_path):
    for name in ("json", "traceback", "runpy", "pickle", "titan_job", "linecache"):
        (tmp_path / f"{name}.py").write_text("print('loaded', __name__)\n")
    (tmp_path / "entry.py").write_text(
        "import titan_job\ntitan_job.result({'n': titan_job.params})\nprint('ran')\n1/0"
    )
    for way in ({"module": "entry"}, {"filename": "entry.py"}):
        handle = api.submit_job(TitanJob(unique("hide"), project=tmp_path, params=[1], **way))
        report = handle.wait(timeout=300, raise_on_failure=False)
        assert report.exception.type == "ZeroDivisionError"
        assert [line for line in handle.logs().splitlines() if "loaded" in line] == []


def test_a_pipeline_names_its_jobs_projects(api, unique, folder):
    first, second = unique("file"), unique("module")
    path = folder.parent / "p.yaml"
    path.write_text(
        f"name: {unique('pipeline')}\nproject: {folder.name}\njobs:\n"
        f"  - {{id: {first}, file: jobs/run.py, args: [a b, '']}}\n"
        f"  - {{id: {second}, module: trainer.train, args: [a b, ''], depends_on: [{first}]}}\n",
        encoding="utf-8",
    )
    report = api.submit_yaml(path).wait(timeout=300)
    assert [job.result for job in report.jobs] == [
        seen(path=["jobs", "."]),
        seen(path=["."], package="trainer"),
    ]


WAIT = """
import os, time
while not os.path.exists({open!r}): time.sleep(0.02)
"""


# Slow: Four jobs run one after the other, with both clients.
@pytest.mark.slow
def test_a_job_runs_the_folder_as_it_was_at_its_submission(api, unique, folder, tmp_path):
    """Whatever becomes of the folder, of others of its name, and of submissions that are refused."""
    word, gate = folder / "trainer" / "words.py", tmp_path / "open"
    first, later = unique("gate"), [unique("later") for _ in range(3)]
    waiting = TitanJob(first, source=WAIT.format(open=str(gate)))
    run = {"filename": "jobs/run.py", "project": folder, "parents": [first]}
    dag = api.submit_dag(unique("dag"), [waiting, TitanJob(later[0], **run)])
    word.write_text("WORD = 'second'")
    with pytest.raises(InvalidDag, match="from an earlier submission"):
        api.submit_job(TitanJob(later[0], "jobs/run.py", project=folder))
    again = api.submit_job(TitanJob(later[1], "jobs/run.py", project=folder))
    other = tmp_path / "other" / folder.name
    other.parent.mkdir()
    folder.rename(other)
    (other / "trainer" / "words.py").write_text("WORD = 'third'")
    third = api.submit_job(TitanJob(later[2], "jobs/run.py", project=other))
    gate.touch()
    assert dag.wait(timeout=300).jobs[1].result["word"] == "hello"
    assert again.wait(timeout=300).result["word"] == "second"
    assert third.wait(timeout=300).result["word"] == "third"


# Slow: Megabytes travel in parts, with both clients.
@pytest.mark.slow
def test_a_project_over_the_packet_limit_travels(api, unique, tmp_path):
    """In parts where the master takes one packet only."""
    (tmp_path / "weights.bin").write_bytes(os.urandom(17_000_000))
    (tmp_path / "main.py").write_text(
        "import hashlib, titan_job; titan_job.result(hashlib.sha256(open('weights.bin', 'rb').read()).hexdigest())"
    )
    jobs = [TitanJob(unique("heavy"), "main.py", project=tmp_path) for _ in range(2)]
    report = api.submit_dag(unique("dag"), jobs).wait(timeout=300)
    digest = hashlib.sha256((tmp_path / "weights.bin").read_bytes()).hexdigest()
    assert [job.result for job in report.jobs] == [digest, digest]


def test_what_the_job_runs_must_not_be_left_out(api, unique, folder):
    (folder / ".gitignore").write_text("jobs/\n")
    job = TitanJob(unique("ignored"), "jobs/run.py", project=folder)
    with pytest.raises(
        InvalidJob, match=r"\.gitignore leaves it out\. Take it in again with a line '!jobs/run\.py'"
    ):
        api.submit_job(job)
    assert api.get_job_status(job.job_id) is JobStatus.UNKNOWN
    (folder / ".titanignore").write_text("data.*\n")
    (folder / "jobs" / "run.py").write_text("import os, titan_job; titan_job.result(sorted(os.listdir('.')))")
    assert api.submit_job(job).wait(timeout=300).result == [".gitignore", "jobs", "trainer"]
