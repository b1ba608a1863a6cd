"""The first line of a job's script: bash and the master read it alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from titan_sdk.model.rules import CANCEL_GRACE, LONGEST_GRACE
from titan_sdk.runtime.stub import first_line, grace_of, takes_any_python


def test_only_a_job_that_names_no_python_may_be_started_by_any() -> None:
    rest = "\nprint('hi')\n"
    assert takes_any_python((first_line(None, "no Python", "not one") + rest).encode())
    assert not takes_any_python((first_line("python3", "no Python", "not one") + rest).encode())
    assert not takes_any_python(b"#!/bin/bash\necho hi\n")


@pytest.mark.parametrize("python", ["/no such/python", "it's"])
def test_bash_says_the_sentence_where_there_is_no_such_python(tmp_path: Path, python: str) -> None:
    script = tmp_path / "job.sh"
    script.write_text(first_line(python, f"there is no {python}", "not one") + "\n")
    done = subprocess.run(["/bin/bash", str(script)], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (98, f"there is no {python}\n")


@pytest.mark.parametrize(
    ("content", "begins"),
    [("#!/bin/sh\ncat >/dev/null; echo 42", False), (f'#!/bin/sh\nexec {sys.executable} "$@"', True)],
)
def test_what_may_be_no_python_is_asked_first(tmp_path: Path, content: str, begins: bool) -> None:
    """One that reads its input would wait for ever on that of a worker, which nobody closes."""
    python, script = tmp_path / "interpreter's", tmp_path / "job.sh"
    python.write_text(content.replace("echo 42", "echo 41"))
    python.chmod(0o755)
    script.write_text(first_line(str(python), "there is none", "it's no Python") + "\nprint('begun')\n")
    with subprocess.Popen(
        ["/bin/bash", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        said = worker.stdout.read()
    assert (worker.returncode, said) == ((0, "begun\n") if begins else (98, "it's no Python\n"))


@pytest.mark.parametrize("grace", [CANCEL_GRACE, 0.0, 0.25, 90.0, LONGEST_GRACE])
def test_a_master_reads_the_grace_of_a_job_with_the_runtime(grace: float) -> None:
    """And waits some seconds longer than the launcher, which hands in what the job said last."""
    script = (first_line(None, "no Python", "not one", grace) + "\n# cancel_grace=7\n").encode()
    run, rest = grace_of(script)
    assert grace < run == rest <= grace + 10


def test_no_first_line_holds_a_slot_for_ever() -> None:
    script = first_line(None, "no Python", "not one", 1e15).encode()
    assert grace_of(script)[0] < LONGEST_GRACE + 10


def test_a_plain_script_has_the_grace_that_jobs_have_by_default() -> None:
    assert grace_of(b"#!/bin/bash\necho hi # cancel_grace=90\n") == (CANCEL_GRACE, 0.0)
