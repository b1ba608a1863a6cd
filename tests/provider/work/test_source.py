from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from titan_provider.work.source import Script, find_script, inline_script


def test_a_script_is_found_beside_the_dag_file_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dags, elsewhere = tmp_path / "dags", tmp_path / "elsewhere"
    for folder in (dags / "jobs", elsewhere / "jobs"):
        folder.mkdir(parents=True)
        (folder / "train.py").touch()
    (elsewhere / "only_here.py").touch()
    monkeypatch.chdir(elsewhere)
    dag_file = str(dags / "dag.py")
    assert found("jobs/train.py", dag_file) == str(dags / "jobs/train.py")
    assert found("only_here.py", dag_file) == str(elsewhere / "only_here.py")
    assert found("jobs/train.py", None) == str(elsewhere / "jobs/train.py")


def found(filename: str, dag_file: str | None) -> str:
    script = find_script(filename, dag_file)
    assert script.source is None
    return script.filename


def test_a_script_beside_a_packed_dag_is_read_from_the_zip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as packed:
        packed.writestr("team/dag.py", "")
        packed.writestr("team/jobs/train.py", "print('packed')")
        packed.writestr("shared.py", "print('shared')")
    monkeypatch.chdir(tmp_path)
    dag_file = str(tmp_path / "pack.zip" / "team" / "dag.py")
    for filename, text in (
        ("jobs/train.py", "packed"),
        ("../shared.py", "shared"),
        (f"{tmp_path}/pack.zip/shared.py", "shared"),
    ):
        name = Path(filename).name
        assert find_script(filename, dag_file) == Script(name, f"print('{text}')".encode())
    with pytest.raises(AirflowException, match=r"no file .*/pack\.zip/team/gone\.py nor"):
        found("gone.py", dag_file)


def test_a_missing_script_names_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AirflowException) as caught:
        found("jobs/train.py", "/dags/dag.py")
    assert "no file /dags/jobs/train.py nor" in str(caught.value)
    assert str(tmp_path / "jobs/train.py") in str(caught.value)


def test_an_absolute_path_is_looked_for_there_only() -> None:
    with pytest.raises(AirflowException, match=r"no file /nowhere/x\.py\. "):
        found("/nowhere/x.py", "/dags/dag.py")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("print(1)", "train-script.py"),
        ("\n#!/bin/bash\necho 1", "train.sh"),
        ("#!/usr/bin/env -S sh\n", "train.sh"),
        ("#!/bin/bash -e\n", "train.sh"),
        ("#!/usr/bin/env python3\nprint(1)", "train-script.py"),
    ],
)
def test_inline_source_is_named_by_its_kind(source: str, name: str) -> None:
    assert inline_script(source, "train") == Script(name, source.lstrip("\n"))


@pytest.mark.parametrize(
    "name", ["email", "statistics", "email.py", "json", "__init__", "load@email.py", "e-mail"]
)
def test_no_inline_script_can_be_imported(name: str) -> None:
    path = inline_script("pass", name).filename
    assert not Path(path).stem.isidentifier()
    assert path.endswith(".py")


def test_the_files_name_is_safe() -> None:
    path = inline_script("", "group.task/../x" * 50).filename
    assert "/" not in path
    assert len(path) < 120
