"""Where the folder of project= is found."""

from __future__ import annotations

import os
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from titan_provider.work.project import find_project


def test_a_project_is_found_beside_the_dag_file_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dags, elsewhere = tmp_path / "dags", tmp_path / "elsewhere"
    for folder in (dags / "team", elsewhere / "team", elsewhere / "only_here"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    with ExitStack() as stack:
        assert find_project("team", str(dags / "dag.py"), stack) == str(dags / "team")
        assert find_project(".", str(dags / "dag.py"), stack) == str(dags)
        assert find_project("only_here", str(dags / "dag.py"), stack) == str(elsewhere / "only_here")
        with pytest.raises(
            AirflowException, match=r"the project 'gone' was not found: there is no folder .*/dags/gone nor"
        ):
            find_project("gone", str(dags / "dag.py"), stack)


def test_one_in_a_packed_dag_is_unpacked_until_its_job_is_submitted(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as packed:
        for name, mode in (
            ("dag.py", 0o644),
            ("team/run", 0o755),
            ("team/pkg/a.py", 0o644),
            ("teammate/b.py", 0o644),
        ):
            member = zipfile.ZipInfo(name)
            member.external_attr = (0o100000 | mode) << 16
            packed.writestr(member, name)
        link = zipfile.ZipInfo("team/link.py")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "pkg/a.py")
    dag_file = str(tmp_path / "pack.zip" / "dag.py")
    with ExitStack() as stack:
        folder = Path(find_project("team", dag_file, stack))
        assert sorted(os.listdir(folder)) == ["link.py", "pkg", "run"]
        assert (folder / "link.py").read_text() == "team/pkg/a.py"
        assert os.access(folder / "run", os.X_OK)
        assert not os.access(folder / "pkg" / "a.py", os.X_OK)
        whole = Path(find_project(".", dag_file, stack))
        assert sorted(os.listdir(whole)) == ["dag.py", "team", "teammate"]
        with pytest.raises(AirflowException, match="was not found"):
            find_project("tea", dag_file, stack)
    assert not folder.exists()
    assert not whole.exists()
