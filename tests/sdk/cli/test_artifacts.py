"""titan artifacts."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from titan_sdk import FileRef, TitanClient, TitanJob


@pytest.fixture
def job(client: TitanClient) -> str:
    source = "import os; os.mkdir('p'); [open('p/%s.txt' % n, 'w').write(n) for n in 'ab']; open('m', 'w').write('model')"
    name = f"cli-{secrets.token_hex(4)}"
    outputs = {"model": "m", "plots": "p/*.txt"}
    client.submit_job(TitanJob(name, source=source, outputs=outputs)).wait(timeout=300)
    return name


def test_a_job_s_files_are_listed_and_fetched_by_the_names_it_gave_them(
    titan, job: str, tmp_path: Path
) -> None:
    listed = titan("artifacts", "ls", "--job", job, "--json").json
    assert [(each["output"], each["path"], each["size"]) for each in listed] == [
        ("model", "m", 5),
        ("plots", "p/a.txt", 1),
        ("plots", "p/b.txt", 1),
    ]
    assert FileRef.from_json(listed[0]).name in titan("artifacts", "ls", "--job", job).out
    target = tmp_path / "copy"
    assert titan("artifacts", "get", "--job", job, "model", "-o", target).out == f"{target}\n"
    assert target.read_text() == "model"
    assert titan("artifacts", "get", "--job", job, "plots", "-o", tmp_path / "plots").code == 0
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["a.txt", "b.txt"]
    ran = titan("artifacts", "get", "--job", job, "modle")
    assert (ran.code, ran.err) == (5, f"titan: job {job!r} has left no output 'modle'; it has model, plots\n")


def test_artifacts_are_listed_by_prefix_and_removed(
    titan, client: TitanClient, job: str, tmp_path: Path
) -> None:
    listed = json.loads(titan("artifacts", "ls", f"run~{job}~", "--json").out)
    assert len(listed) == 3
    shown = titan("artifacts", "ls", f"run~{job}~", "--limit", "2").out.splitlines()
    assert "there are more" in shown[2]
    assert titan("artifacts", "rm", "--job", job, "plots").code == 0
    assert titan("artifacts", "rm", listed[0]["name"], f"run~{job}~gone").code == 5
    ran = titan("artifacts", "get", "--job", job, "plots", "-o", tmp_path)
    assert ran.code == 5
    assert titan("artifacts", "ls", "x", "--job", job).code == 2
