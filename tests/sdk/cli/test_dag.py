"""titan dag submit: pipeline files against a running cluster."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from textwrap import dedent

import pytest

from titan_sdk import TitanClient


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """Two jobs of which the second fails if there is a file ``fail``; ids are new each time."""
    run = secrets.token_hex(4)
    (tmp_path / "first.py").write_text("import titan_job\ntitan_job.result([1, 2])\n")
    (tmp_path / "second.py").write_text("import sys, titan_job\nsys.exit(titan_job.params['code'])\n")
    path = tmp_path / "pipe.yaml"
    path.write_text(
        dedent(
            f"""\
            name: pipe-{run}
            project: false
            jobs:
              - {{id: first-{run}, file: first.py, requirement: GPU}}
              - {{id: second-{run}, file: second.py, depends_on: [first-{run}], params: {{code: 0}}}}
              - {{id: third-{run}, file: first.py, depends_on: [second-{run}]}}
            """
        )
    )
    return path


def failing(pipeline: Path) -> Path:
    pipeline.write_text(pipeline.read_text().replace("code: 0", "code: 4"))
    return pipeline


def test_submit_returns_the_ids(titan, pipeline: Path, client: TitanClient) -> None:
    answer = titan("dag", "submit", pipeline, "--json").json
    assert [job_id.partition("-")[0] for job_id in answer["job_ids"]] == ["first", "second", "third"]
    found = client.find_dag(answer["name"], answer["run_id"])
    assert found.wait(300).state == "COMPLETED"
    again = titan("dag", "submit", pipeline)
    assert again.code == 0
    assert again.out.startswith(f"submitted DAG {answer['name']} (run ")


def test_wait_ends_with_a_table_of_the_jobs(titan, pipeline: Path) -> None:
    ran = titan("dag", "submit", pipeline, "--wait")
    assert ran.code == 0, ran.err
    rows = [line for line in ran.out.splitlines() if line.startswith("│")]
    assert len(rows) == 3
    assert all("COMPLETED" in row for row in rows)
    assert "GPU-1" in rows[0]
    assert "[1, 2]" in rows[0]
    assert "first" in ran.err


def test_a_failure_is_exit_code_1_and_names_the_root_cause(titan, pipeline: Path) -> None:
    ran = titan("dag", "submit", failing(pipeline), "--wait")
    assert ran.code == 1
    assert "NOT RUN" in ran.out
    last = ran.err.splitlines()[-1]
    assert last.startswith("titan: DAG 'pipe-")
    assert "failed with exit code 4" in last
    assert last.endswith("(and 1 more of 3 jobs)")


def test_a_failure_as_json_has_every_report(titan, pipeline: Path) -> None:
    ran = titan("--json", "dag", "submit", failing(pipeline), "-w")
    assert ran.code == 1
    first, second, third = ran.json["jobs"]
    assert (first["state"], first["result"]) == ("COMPLETED", [1, 2])
    assert (second["state"], second["exit_code"]) == ("DEAD", 4)
    assert third["upstream_failed"] == [second["job_id"]]


def test_giving_up_the_wait_is_exit_code_6(titan, pipeline: Path) -> None:
    (pipeline.parent / "first.py").write_text("import time\ntime.sleep(600)\n")
    ran = titan("dag", "submit", pipeline, "--wait-timeout", "0.3")
    assert ran.code == 6
    (job_id,) = re.findall(r"id: (first-\w+)", pipeline.read_text())
    assert titan("cancel", job_id).code == 0


def test_a_project_travels_with_its_folder(titan, tmp_path: Path, client: TitanClient) -> None:
    run = secrets.token_hex(4)
    (tmp_path / "tools.py").write_text("WORD = 'from the project'\n")
    (tmp_path / "main.py").write_text("import tools\nprint(tools.WORD)\n")
    path = tmp_path / "pipe.yaml"
    path.write_text(f"name: proj-{run}\njobs:\n  - {{id: main-{run}, file: main.py}}\n")
    ran = titan("dag", "submit", path, "--wait")
    assert ran.code == 0, ran.err
    assert client.fetch_logs(f"main-{run}") == "from the project\n"


def test_a_wrong_file_is_exit_code_2_and_names_line_and_key(titan, pipeline: Path) -> None:
    pipeline.write_text(pipeline.read_text().replace("requirement", "requiremnt"))
    ran = titan("dag", "submit", pipeline)
    assert ran.code == 2
    assert ran.err == (
        f"titan: {pipeline}:4: job 1 has the unknown key 'requiremnt'; did you mean 'requirement'?\n"
    )
