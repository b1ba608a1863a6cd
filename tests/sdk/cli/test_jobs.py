"""titan submit, logs, cancel: against a running cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from titan_sdk import JobStatus, TitanClient
from titan_sdk.cli.jobs import job_id_for

Script = Callable[..., Path]
ECHO = """\
import os, sys, titan_job
print("args", sys.argv[1:])
print("env", os.environ.get("GREETING"))
titan_job.progress(0.5, "half way")
titan_job.result({"params": titan_job.params, "text": "grüß dich"})
"""
FOREVER = "import time\nprint('started', flush=True)\ntime.sleep(600)\n"


def test_submit_names_the_job_and_returns_at_once(titan, script: Script, client: TitanClient) -> None:
    ran = titan("submit", script(ECHO, "my train.py"))
    assert ran.code == 0
    found = re.fullmatch(r"submitted (my-train-[0-9a-f]{8})\n", ran.out)
    assert found
    assert client.wait_for_job(found[1], timeout=120).state is JobStatus.COMPLETED


def test_submit_as_json_has_what_finds_the_job_again(titan, script: Script, client: TitanClient) -> None:
    job_id = job_id_for(Path("a.py"))
    answer = titan("submit", script(ECHO), "--id", job_id, "--json").json
    assert (answer["job_id"], answer["full_id"]) == (job_id, f"DAG-{job_id}")
    report = client.job_handle(job_id, answer["nonce"]).wait(120)
    assert report.result == {"params": None, "text": "grüß dich"}


def test_wait_shows_the_output_and_the_result(titan, script: Script) -> None:
    ran = titan(
        *("submit", script(ECHO), "two words", "--wait", "--env", "GREETING=a=b;c|d"),
        *("--params", '{"n": 1}', "-r", "GPU", "--", "--epochs", "3"),
    )
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[:2] == ["args ['two words', '--epochs', '3']", "env a=b;c|d"]
    assert re.fullmatch(r"job 'job-\w{8}' completed on worker GPU-1 after \d+\.\d\d s", lines[2])
    assert lines[3] == 'result: {"params": {"n": 1}, "text": "grüß dich"}'


def test_a_folder_travels_whole_where_something_says_what_runs(titan, tmp_path: Path) -> None:
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "helper.py").write_text("WORD = 'helped'")
    ran = titan("submit", folder)
    assert ran.code == 2
    assert (
        f"{str(folder)!r} is a folder; say which file is to run: titan submit {folder}/helper.py" in ran.err
    )
    assert f"titan submit --project {folder} FILE, and the whole folder travels" in " ".join(ran.err.split())
    (folder / "p.yaml").touch()
    assert f"titan dag submit {folder}/p.yaml" in titan("submit", folder).err
    (folder / "__main__.py").write_text("import sys, helper; print(helper.WORD, sys.argv[1:])")
    ran = titan("submit", folder, "--wait", "--", "-x", "a b")
    assert ran.code == 0, ran.err
    assert re.match(r"helped \['-x', 'a b'\]\njob 'my-project-[0-9a-f]{8}' completed", ran.out)


@pytest.fixture
def team(tmp_path: Path) -> Path:
    folder = tmp_path / "team"
    (folder / "pkg").mkdir(parents=True)
    (folder / "pkg" / "words.py").write_text("WORD = 'helped'")
    (folder / "pkg" / "train.py").write_text(
        "import os, sys\nfrom pkg.words import WORD\nprint(WORD, sys.argv[1:], os.path.exists('pkg'))"
    )
    return folder


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["pkg/train.py", "a b", "--", "-x"], r"helped \['a b', '-x'\] True\njob 'train-\w{8}' completed"),
        (
            ["-m", "pkg.train", "a b", "--", "-x"],
            r"helped \['a b', '-x'\] True\njob 'pkg\.train-\w{8}' completed",
        ),
        (["--cwd", "worker", "pkg/train.py"], r"helped \[\] False"),
    ],
)
def test_a_file_or_module_of_a_project_runs(titan, team: Path, given: list[str], shown: str) -> None:
    ran = titan("submit", "--project", team, "--wait", *given)
    assert ran.code == 0, ran.err
    assert re.match(shown, ran.out)


def test_a_module_of_the_worker_runs(titan) -> None:
    ran = titan("submit", "--wait", "--module", "calendar", "2026", "11")
    assert "November 2026" in ran.out


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "nothing says what to run; give a file, or --module"),
        (["--project", "{team}"], "nothing says what to run; give a file, or --module"),
        (["--project", "{team}", "gone.py"], "filename 'gone.py' is no file of the project"),
        (["--project", "{team}/gone", "a.py"], "is no folder of this machine"),
        (
            ["--project", "{team}", "--cwd", "home", "pkg/train.py"],
            "cwd 'home' is neither 'project' nor 'worker'",
        ),
        (["--project", "{team}", "-m", "pkg/train.py"], "is a file; give it as filename"),
    ],
)
def test_what_cannot_run_of_a_project_is_said(titan, team: Path, given: list[str], sentence: str) -> None:
    ran = titan("submit", *(word.format(team=team) for word in given))
    assert ran.code == 2
    assert sentence in " ".join(ran.err.split())


def test_wait_as_json_is_the_report_alone(titan, script: Script) -> None:
    ran = titan("--json", "submit", script(ECHO), "--wait")
    assert ran.code == 0
    assert ran.json["state"] == "COMPLETED"
    assert ran.json["result"] == {"params": None, "text": "grüß dich"}
    assert ran.json["exit_code"] == 0
    assert "args" not in ran.err


def test_follow_as_json_sends_the_output_to_stderr(titan, script: Script) -> None:
    ran = titan("submit", script(ECHO), "--follow", "--json")
    assert ran.json["state"] == "COMPLETED"
    assert "args []\n" in ran.err


def test_no_follow_waits_in_silence(titan, script: Script) -> None:
    ran = titan("submit", script(ECHO), "--wait", "--no-follow")
    assert ran.out.startswith("job 'job-")


def test_output_without_a_final_line_end_is_shown_whole(titan, script: Script) -> None:
    ran = titan("submit", script("import sys\nsys.stdout.write('first\\nlast')\n"), "--wait")
    assert ran.out.splitlines()[:2] == ["first", "last"]


def test_a_failing_job_is_exit_code_1_and_a_sentence(titan, script: Script) -> None:
    ran = titan("submit", script("import sys\nprint('dying')\nsys.exit(3)\n"), "--wait")
    assert ran.code == 1
    assert ran.out == "dying\n"
    assert re.fullmatch(r"titan: job 'job-\w+' failed with exit code 3 on worker \S+\n", ran.err)


def test_an_exception_is_named(titan, script: Script) -> None:
    ran = titan("submit", script("raise ValueError('no data')\n"), "--wait", "--json")
    assert ran.code == 1
    assert ran.json["exception"]["type"] == "ValueError"
    assert ran.err.rstrip().endswith(": ValueError: no data")


def test_attempts_and_time_limit_reach_the_job(titan, script: Script) -> None:
    slow = script(FOREVER)
    ran = titan(
        "submit", slow, "--timeout", "0.3", "--wait", "--json", "--max-attempts", "1", "--priority", "2"
    )
    assert ran.code == 1
    assert ran.json["attempts"] == 1
    assert ran.json["seconds"] < 30


def test_giving_up_the_wait_is_exit_code_6_and_the_job_goes_on(titan, script: Script) -> None:
    job_id = job_id_for(Path("slow.py"))
    ran = titan("submit", script(FOREVER), "--id", job_id, "--wait-timeout", "300ms")
    assert ran.code == 6
    assert ran.err == f"titan: job {job_id!r} is RUNNING after 0.3 s; the work goes on\n"
    cancelled = titan("cancel", job_id)
    assert (cancelled.code, cancelled.out) == (0, f"{job_id}: CANCELLED\n")


def test_a_tag_that_no_worker_has_is_told_at_once(titan, script: Script) -> None:
    job_id = job_id_for(Path("typo.py"))
    ran = titan("submit", script(ECHO), "--id", job_id, "-r", "gpu")
    assert ran.code == 0
    assert ran.err == (
        f"titan: warning: job {job_id!r} waits: no worker has the tag 'gpu' (tags present: GENERAL, GPU); "
        "did you mean 'GPU'?\n"
    )
    assert titan("cancel", job_id).code == 0


def test_a_delay_is_in_seconds(titan, script: Script, client: TitanClient) -> None:
    answer = titan("submit", script(ECHO), "--delay", "10m", "--json").json
    assert client.get_job_status(answer["job_id"]) is JobStatus.PENDING
    assert titan("cancel", answer["job_id"], "--json").json["state"] == "CANCELLED"


def test_cancelling_what_has_ended_leaves_it(titan, script: Script) -> None:
    job_id = titan("submit", script(ECHO), "--wait", "--json").json["job_id"]
    assert titan("cancel", f"DAG-{job_id}").out == f"DAG-{job_id}: COMPLETED (it had ended before)\n"


def test_logs_whole_and_followed(titan, script: Script) -> None:
    job_id = titan("submit", script("print('a')\nprint('é')\n"), "--wait", "--json").json["job_id"]
    assert titan("logs", job_id).out == "a\né\n"
    assert titan("logs", job_id, "-f").out == "a\né\n"
    assert titan("logs", job_id, "--json").json == {"job_id": job_id, "text": "a\né\n"}
    followed = titan("logs", "-f", job_id, "--json").out.splitlines()
    assert [json.loads(line)["line"] for line in followed] == ["a", "é"]


def test_the_log_of_a_silent_job_is_empty(titan, script: Script) -> None:
    job_id = titan("submit", script(""), "--wait", "--json").json["job_id"]
    assert titan("logs", job_id).out == ""


@pytest.mark.parametrize("command", ["logs", "cancel"])
def test_an_unknown_job_is_exit_code_5(titan, command: str) -> None:
    ran = titan(command, "never-submitted")
    assert (ran.code, ran.out) == (5, "")
    assert "does not know the job 'never-submitted'" in ran.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--env", "NOVALUE"], "titan: --env 'NOVALUE' is not NAME=VALUE\n"),
        (["--params", "{n: 1}"], "titan: --params '{n: 1}' is not JSON ("),
        (["--id", "a;b"], "titan: job 'a;b': job_id 'a;b' contains ';'; use letters"),
        (["-r", "x" * 20], "titan: job "),
        (["--max-attempts", "0"], "titan: job "),
    ],
)
def test_wrong_input_is_exit_code_2_and_a_sentence(
    titan, script: Script, options: list[str], sentence: str
) -> None:
    ran = titan("submit", script(ECHO), *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(sentence)
    assert len(ran.err.splitlines()) == 1


def test_a_missing_script_is_exit_code_2(titan, tmp_path: Path) -> None:
    ran = titan("submit", tmp_path / "gone.py")
    assert ran.code == 2
    assert "give a path that exists on this machine" in ran.err


@pytest.mark.parametrize(
    ("name", "stem"), [("a b.py", "a-b"), ("日本.py", "job"), ("..py", "job"), ("x" * 300 + ".py", "x" * 150)]
)
def test_default_ids_are_safe_and_new_each_time(name: str, stem: str) -> None:
    one, other = job_id_for(Path(name)), job_id_for(Path(name))
    assert one != other
    assert re.fullmatch(rf"{stem}-[0-9a-f]{{8}}", one)


@pytest.mark.parametrize("option", ["--timeout", "--delay", "--wait-timeout"])
def test_what_is_no_duration_is_refused(titan: Any, script: Any, option: str) -> None:
    ran = titan("submit", script(ECHO), option, "soon")
    assert ran.code == 2
    assert "'soon' is not a number of seconds" in " ".join(ran.err.replace("│", " ").split())
