"""A folder beside the DAG file travels with a task's jobs, in a real Airflow."""

from __future__ import annotations

import importlib
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import airflow_run
from tests.support.airflow_run import Outcome, unique
from titan_provider.decorators.titan import titan_task
from titan_provider.exceptions import TitanFunctionRefused
from titan_provider.operators.titan import TitanJobOperator
from titan_provider.work.jobs import read_jobs

pytestmark = pytest.mark.airflow

RunDag = Callable[..., Outcome]

TRAIN = """
import os, sys, titan_job
from titan_team.words import WORD
titan_job.result([WORD, sys.argv[1:], os.path.exists("titan_team/words.py")])
"""


@pytest.fixture
def team(airflow_home: Path) -> Iterator[Path]:
    """A project beside the DAG files."""
    folder = airflow_home / "dags" / unique("team")
    (folder / "titan_team").mkdir(parents=True)
    (folder / "titan_team" / "__init__.py").touch()
    (folder / "titan_team" / "words.py").write_text("WORD = 'hello'")
    (folder / "titan_team" / "train.py").write_text(TRAIN)
    (folder / "run.py").write_text(TRAIN)
    yield folder
    sys.modules.pop("titan_team", None)
    sys.modules.pop("titan_team.words", None)


def test_files_and_modules_of_a_project_run(run_dag: RunDag, team: Path) -> None:
    done = run_dag(
        f"""
        folder = {team.name!r}
        TitanJobOperator(task_id="file", project="{{{{{{{{ params.folder }}}}}}}}", filename="run.py", args=["a b"],
            params={{"folder": folder}})
        TitanJobOperator(task_id="module", project=folder, module="titan_team.{{{{{{{{ 'train' }}}}}}}}", deferrable=True)
        TitanJobOperator(task_id="inline", project=folder, script={TRAIN!r}, cwd="worker")
        TitanJobOperator(task_id="none", module="calendar", args=["2026", "11"])
        @task.titan(project=folder)
        def function(more):
            from titan_team.words import WORD
            return WORD + more
        function("!")
    """.replace("{{{{", "{{").replace("}}}}", "}}")
    )
    assert done.state == "success", done.errors
    assert done.xcom("file") == ["hello", ["a b"], True]
    assert done.xcom("module") == ["hello", [], True]
    assert done.xcom("inline") == ["hello", [], False]
    assert done.xcom("function") == "hello!"


def test_jobs_of_a_dag_bring_their_projects(run_dag: RunDag, team: Path) -> None:
    done = run_dag(f"""
        from titan_provider.operators.dag import TitanDagOperator
        TitanDagOperator(task_id="both", jobs=[
            {{"job_id": "a", "project": {team.name!r}, "filename": "run.py", "args": ["1"]}},
            {{"job_id": "b", "project": {team.name!r}, "module": "titan_team.train", "parents": ["a"]}},
            {{"job_id": "c", "project": {team.name!r}, "script": {TRAIN!r}, "cwd": "worker"}},
        ])
    """)
    assert done.state == "success", done.errors
    assert done.xcom("both") == {
        "a": ["hello", ["1"], True],
        "b": ["hello", [], True],
        "c": ["hello", [], False],
    }


def test_a_project_that_is_not_there_fails_the_task_before_anything_is_sent(
    run_dag: RunDag, team: Path
) -> None:
    done = run_dag(f"""
        TitanJobOperator(task_id="gone", project="no_such_team", filename="run.py")
        TitanJobOperator(task_id="entry", project={team.name!r}, filename="gone.py")
    """)
    assert done.state == "failed"
    sentences = sorted(map(str, done.errors))
    assert "filename 'gone.py' is no file of the project" in sentences[0]
    assert "the project 'no_such_team' was not found: there is no folder" in sentences[1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "give one of filename=, script= and module="),
        ({"filename": "a.py", "module": "a"}, "give one of filename=, script= and module="),
        ({"filename": "a.py", "cwd": "home"}, "cwd 'home' is neither 'project' nor 'worker'"),
    ],
)
def test_what_makes_no_sense_is_refused_while_the_dag_file_is_read(
    given: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        TitanJobOperator(task_id="t", **given)


PACKED = """
from airflow.providers.common.compat.sdk import DAG, task
from titan_provider.operators.titan import TitanJobOperator
import titan_team.words
with DAG({dag_id!r}, schedule=None) as dag:
    TitanJobOperator(task_id="module", project=".", module="titan_team.train", poll_interval=0.1)
    @task.titan(project=".", poll_interval=0.1)
    def function():
        return titan_team.words.WORD
    function()
"""


def test_the_project_of_a_packed_dag_travels(
    airflow_home: Path, airflow_connection: str, team: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow loads DAGs from a zip as Python imports modules from one."""
    airflow_run.import_what_warns()
    dag_id = unique("packed")
    path = airflow_home / "dags" / f"{dag_id}.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{dag_id}.py", PACKED.format(dag_id=dag_id))
        for name in ("titan_team/__init__.py", "titan_team/words.py", "titan_team/train.py"):
            packed.write(team / name, name)
    monkeypatch.syspath_prepend(str(path))
    run = importlib.import_module(dag_id).dag.test()
    done = Outcome(str(run.state), {}, run, list(airflow_run.ERRORS))
    assert done.state == "success", done.errors
    assert (done.xcom("module"), done.xcom("function")) == (["hello", [], True], "hello")


BESIDE = """
from titan_team.words import WORD

def f():
    return WORD
"""


def test_a_function_may_import_at_the_top_of_its_file_what_its_project_has(
    team: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(team))
    path = team / "dag_of_test.py"
    path.write_text(BESIDE)
    function = importlib.import_module("dag_of_test").f
    with pytest.raises(TitanFunctionRefused, match="let its folder travel as project="):
        titan_task(function)
    with pytest.raises(TitanFunctionRefused, match="let its folder travel as project="):
        titan_task(function, project="titan_team")
    for project in (".", team, "{{ params.where }}"):
        titan_task(function, project=project)
    with pytest.raises(TitanFunctionRefused, match="takes no module="):
        titan_task(function, module="x")


def test_a_job_is_another_one_when_its_project_has_changed(team: Path) -> None:
    def mark(**fields: str) -> str:
        (job,) = read_jobs("t", [{"job_id": "a", "project": str(team), **fields}], None)
        return job.mark

    first = mark(filename="run.py")
    (team / "__pycache__").mkdir()
    (team / "__pycache__" / "x.pyc").touch()
    assert mark(filename="run.py") == first
    others = [
        mark(module="titan_team.train"),
        mark(filename="titan_team/train.py"),
        mark(filename="run.py", cwd="worker"),
    ]
    (team / "titan_team" / "words.py").write_text("WORD = 'other'")
    others.append(mark(filename="run.py"))
    assert len({first, *others}) == 5
