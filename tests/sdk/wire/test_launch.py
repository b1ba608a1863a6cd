"""The first line of a job's script: bash and the master read it alike."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from titan_sdk.wire.launch import first_line, takes_any_python


def test_only_a_job_that_names_no_python_may_be_started_by_any() -> None:
    rest = "\nprint('hi')\n"
    assert takes_any_python((first_line(None, "no Python") + rest).encode())
    assert not takes_any_python((first_line("python3", "no Python") + rest).encode())
    assert not takes_any_python(b"#!/bin/bash\necho hi\n")


@pytest.mark.parametrize("python", ["/no such/python", "it's"])
def test_bash_says_the_sentence_where_there_is_no_such_python(tmp_path: Path, python: str) -> None:
    script = tmp_path / "job.sh"
    script.write_text(first_line(python, f"there is no {python}") + "\n")
    done = subprocess.run(["/bin/bash", str(script)], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (98, f"there is no {python}\n")
