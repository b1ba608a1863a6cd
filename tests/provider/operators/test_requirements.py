"""The packages of a task's jobs, in a real Airflow."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.airflow_run import Outcome, unique
from tests.support.wheels import make_wheel, served
from titan_provider.compat import AirflowException
from titan_provider.work.jobs import read_jobs
from titan_provider.work.project import find_requirements

pytestmark = pytest.mark.airflow

RunDag = Callable[..., Outcome]

SHOWS = "import demo, titan_job\ntitan_job.result(demo.VERSION)\n"


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[list[str]]:
    """Requirements that come from nowhere but this test."""
    make_wheel(tmp_path / "wheels", "demo", "1.5.0")
    with served(tmp_path / "wheels") as url:
        yield ["--no-index", f"--find-links {url}", "demo"]


def test_tasks_bring_their_packages(run_dag: RunDag, lines: list[str], airflow_home: Path) -> None:
    listing = airflow_home / "dags" / f"{unique('requirements')}.txt"
    listing.write_text("\n".join(lines))
    done = run_dag(f"""
        from titan_provider.operators.dag import TitanDagOperator
        TitanJobOperator(task_id="file", script={SHOWS!r}, requirements={listing.name!r})
        TitanJobOperator(task_id="deferred", script={SHOWS!r}, requirements={lines!r}, deferrable=True)
        @task.titan(requirements={lines!r}, inherit_packages=True)
        def function():
            import demo
            return demo.VERSION
        function()
        TitanDagOperator(task_id="dag", jobs=[
            {{"job_id": "a", "script": {SHOWS!r}, "requirements": {lines!r}}},
            {{"job_id": "b", "script": {SHOWS!r}, "requirements": {listing.name!r}, "parents": ["a"]}},
        ])
    """)
    listing.unlink()
    assert done.state == "success", done.errors
    assert [done.xcom(task) for task in ("file", "deferred", "function")] == ["1.5.0"] * 3
    assert done.xcom("dag") == {"a": "1.5.0", "b": "1.5.0"}


def test_what_cannot_be_installed_fails_the_task_and_is_not_tried_again(
    run_dag: RunDag, lines: list[str]
) -> None:
    done = run_dag(f"""
        TitanJobOperator(task_id="broken", script="print(1)", requirements={[*lines[:2], "demo>=9"]!r}, retries=3,
            no_retry_exit_codes=[96])
        TitanJobOperator(task_id="mixed", script="print(1)", requirements="numpy")
        TitanJobOperator(task_id="gone", script="print(1)", requirements="gone.txt")
    """)
    assert done.state == "failed"
    sentences = "\n".join(sorted(map(str, done.errors)))
    assert "its environment could not be built: " in sentences
    assert "give a list: requirements=['numpy']" in sentences
    assert "the requirements 'gone.txt' were not found: there is no file" in sentences


def test_requirements_are_found_in_a_packed_dag_with_the_files_that_they_name(tmp_path: Path) -> None:
    packed = tmp_path / "dags.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("team/requirements.txt", "-r more.txt\n")
        archive.writestr("team/more.txt", "demo\n")
        archive.writestr("dag.py", "")
    with ExitStack() as stack:
        found = Path(find_requirements("team/requirements.txt", str(packed / "dag.py"), stack))
        assert found.read_text() == "-r more.txt\n"
        assert found.with_name("more.txt").read_text() == "demo\n"
    assert not found.exists()
    with pytest.raises(AirflowException, match=r"'absent.txt' were not found: there is no file"):
        find_requirements("absent.txt", str(packed / "dag.py"), ExitStack())


def test_other_requirements_make_another_job(tmp_path: Path) -> None:
    listing = tmp_path / "requirements.txt"

    def mark(**fields: object) -> str:
        return read_jobs("t", [{"job_id": "a", "script": "pass", **fields}], str(tmp_path / "dag.py"))[0].mark

    listing.write_text("numpy\n")
    marks = [mark(), mark(requirements=["numpy"]), mark(requirements=["numpy"], inherit_packages=True)]
    marks.append(mark(requirements="requirements.txt"))
    listing.write_text("numpy>=2\n")
    marks.append(mark(requirements="requirements.txt"))
    assert len(set(marks)) == 5
    assert mark(requirements="requirements.txt") == marks[-1]
