"""Archive jobs: a project's zip runs with everything a script gets, on a master that would drop its arguments."""

from __future__ import annotations

import os
import pickle
import re

import pytest

from titan_sdk import InvalidJob, JobFailed, JobStatus, TitanJob

ECHO = """
import json, os, sys
import helper, titan_job
titan_job.progress(0.5)
titan_job.result({"argv": sys.argv[1:], "params": titan_job.params, "env": os.environ["GREETING"], "word": helper.WORD,
                  "cwd": sorted({*os.listdir(".")} - {"__pycache__"}), "file": os.path.basename(__file__), "data": open("../data.txt").read()})
"""


@pytest.fixture
def upload(api, unique, tmp_path):
    """Uploads files as a project and gives its name."""

    def send(**files):
        project = tmp_path / "project"
        for path, text in files.items():
            file = project / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755)
        name = unique("project")
        assert api.upload_project_folder(project, name).name == f"{name}.zip"
        return name

    return send


def test_an_archive_job_has_arguments_params_and_a_result(api, unique, upload):
    folder = "src é"
    files = {f"{folder}/ma;in|.py": ECHO, f"{folder}/helper.py": "WORD = 'hello'", "data.txt": "beside"}
    name = upload(**files)
    args = ["fast 1", "a|b;c", "", "日本"]
    job = TitanJob(
        unique("archive"),
        f"{name}.zip/{folder}/ma;in|.py",
        is_archive=True,
        args=args,
        params=[1, {"é": None}],
        env={"GREETING": "hé"},
        requirement="GPU",
    )
    report = api.submit_job(job).wait(timeout=300)
    assert report.result == {
        "argv": args,
        "params": [1, {"é": None}],
        "env": "hé",
        "word": "hello",
        "cwd": ["helper.py", "ma;in|.py"],
        "file": "ma;in|.py",
        "data": "beside",
    }
    assert report.exit_code == 0


@pytest.mark.parametrize("entry", ["run.sh", "tool"])
def test_an_archive_runs_shell_scripts_and_programs(api, unique, upload, entry):
    name = upload(**{entry: '#!/bin/bash\necho "got $1 in $(basename "$PWD")"; exit 3\n'})
    handle = api.submit_job(TitanJob(unique("shell"), f"{name}.zip/{entry}", is_archive=True, args=["a b"]))
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert report.exit_code == 3
    assert handle.logs() == "got a b in project\n"


def test_an_archive_without_the_entry_says_so(api, unique, upload):
    name = upload(**{"main.py": "pass"})
    handle = api.submit_job(TitanJob(unique("broken"), f"{name}.zip/gone.py", is_archive=True))
    with pytest.raises(JobFailed, match=r"has no file 'gone\.py'"):
        handle.wait(timeout=300)


@pytest.mark.parametrize("runtime", [True, False])
def test_linked_and_empty_folders_travel(api, unique, tmp_path, runtime):
    project = tmp_path / "project"
    (project / "code").mkdir(parents=True)
    (project / "code" / "helper.py").write_text("WORD = 'hello'")
    (project / "out").mkdir()
    (project / "lib").symlink_to("code")
    (project / "main.py").write_text("import os, lib.helper; print(lib.helper.WORD, os.path.isdir('out'))")
    name = unique("linked")
    api.upload_project_folder(project, name)
    job = TitanJob(unique("archive"), f"{name}.zip/main.py", is_archive=True, runtime=runtime)
    handle = api.submit_job(job)
    handle.wait(timeout=300)
    assert list(handle.follow_logs()) == ["hello True"]


def test_without_the_runtime_an_archive_is_titans_own(api, unique, upload):
    name = upload(
        **{"src/main.py": "import helper; print('archive says', helper.WORD)", "src/helper.py": "WORD = 1"}
    )
    job = TitanJob(unique("plain"), f"{name}.zip/src/main.py", is_archive=True, runtime=False)
    handle = api.submit_job(job)
    assert handle.wait(timeout=300).state is JobStatus.COMPLETED
    assert "archive says 1" in "\n".join(handle.follow_logs())


def test_without_the_runtime_arguments_of_an_archive_arrive_or_are_refused(api, unique, upload, capabilities):
    name = upload(**{"main.py": "import sys; print(sys.argv[1:])"})
    job = TitanJob(unique("plain"), f"{name}.zip/main.py", is_archive=True, args="fast 1", runtime=False)
    if "archive_args" not in capabilities:
        with pytest.raises(InvalidJob, match="a real Titan drops them"):
            api.submit_job(job)
        return
    handle = api.submit_job(job)
    handle.wait(timeout=300)
    assert "['fast', '1']" in handle.logs()


@pytest.mark.needs("chunked_artifacts")
def test_an_archive_over_the_packet_limit_runs(api, unique, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "weights.bin").write_bytes(os.urandom(12_000_000))
    (project / "main.py").write_text("import os, titan_job; titan_job.result(os.path.getsize('weights.bin'))")
    name = unique("heavy")
    api.upload_project_folder(project, name)
    handle = api.submit_job(TitanJob(unique("archive"), f"{name}.zip/main.py", is_archive=True))
    assert handle.wait(timeout=300).result == 12_000_000


def test_files_called_like_modules_are_the_jobs_alone(api, unique, upload, tmp_path):
    """The runtime imports none of them, runs the entry once, and keeps what is no result."""
    loud = "print('loaded', __name__)\n"
    entry = "import titan_job\nprint('ran')\nassert titan_job.params == [1]\ntitan_job.result([object])\n"
    shadows = {f"{name}.py": loud for name in ("pickle", "copyreg", "reprlib", "titan_job")}
    name = upload(**{"json.py": entry, **shadows})
    job = TitanJob(unique("json"), f"{name}.zip/json.py", is_archive=True, params=[1])
    handle = api.submit_job(job)
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert report.exception.type == "TypeError"
    lines = api.fetch_logs(report.job_id).splitlines()
    assert (lines[0], [line for line in lines if line.startswith(("ran", "loaded"))]) == ("ran", ["ran"])
    artifact = re.search(r"unsent-\S+\.pickle", report.exception.message)[0]
    assert pickle.loads(api.fetch_artifact(artifact, tmp_path / "kept").read_bytes()) == [object]
