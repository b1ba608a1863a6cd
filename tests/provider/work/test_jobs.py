"""The jobs of a TitanDagOperator, from what its user wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from titan_provider.work.jobs import NamedJob, read_jobs
from titan_sdk import TitanJob


def read(*given: Any) -> list[NamedJob]:
    return read_jobs("t", given, None)


def test_a_job_is_known_again_by_the_marks_that_earlier_versions_made(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")
    jobs = read(
        {"job_id": "a", "script": "\nprint('é')", "args": ["x"]},
        {"job_id": "b", "filename": str(script), "params": {"n": 1}},
        {"job_id": "c", "filename": "code.zip/main.py", "is_archive": True},
    )
    assert [job.mark for job in jobs] == ["f0b4028885431716", "f4c46b600725d2e0", "b3aded57922b0f7e"]


def test_a_job_with_its_source_is_built_with_it() -> None:
    jobs = read(
        TitanJob("a", source="\nprint('é')", max_attempts=2),
        TitanJob("b", "shown.py", source=b"\xff"),
        {"job_id": "c", "source": "#!/bin/sh\n"},
        {"job_id": "d", "filename": "shown.py", "script_content": "pass"},
    )
    built = [job.build({job.name: f"run.{job.name}"}) for job in jobs]
    assert [job.filename for job in built] == ["a-script.py", "shown.py", "c.sh", "shown.py"]
    assert [job.read_script() for job in built] == ["\nprint('é')".encode(), b"\xff", b"#!/bin/sh\n", b"pass"]
    assert built[0].max_attempts == 2
    assert len({job.mark for job in jobs}) == 4


@pytest.mark.parametrize(
    "given",
    [
        {"job_id": "a"},
        {"job_id": "a", "filename": "x.py", "script": "pass"},
        {"job_id": "a", "source": "pass", "script": "pass"},
        {"job_id": "a", "source": "pass", "script_content": "pass"},
    ],
)
def test_a_job_has_one_script(given: dict[str, str]) -> None:
    with pytest.raises(
        ValueError, match=r"^t: jobs\[0\] \(a\): give one of 'filename', 'script' and 'module'"
    ):
        read(given)


def test_another_input_or_output_makes_it_another_job() -> None:
    ref = {"titan_file": 1, "name": "m", "size": 1, "sha256": "0" * 64}
    given: list[dict[str, Any]] = [
        {},
        {"inputs": {"m": ref}},
        {"inputs": {"m": ref | {"sha256": "1" * 64}}},
        {"outputs": {"m": "m"}},
    ]
    # One script under one name, whatever the job is called.
    marks = {read({"job_id": "j", "script": "pass", **each})[0].mark for each in given}
    assert len(marks) == len(given)
