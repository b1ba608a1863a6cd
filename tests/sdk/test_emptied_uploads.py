"""Somebody empties the master's folder of uploads: the same client's next submit notices, and its jobs run at once."""

from __future__ import annotations

import random
import shutil
import uuid
from pathlib import Path

import pytest

from titan_sdk import JobHandle, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster


def submit_project(client: TitanClient, folder: Path) -> JobHandle:
    """As a pipeline in project mode."""
    name = f"p-{uuid.uuid4().hex[:8]}"
    (folder / "p.yaml").write_text(f"name: {name}\nproject: true\njobs: [{{id: {name}, file: main.py}}]\n")
    return client.submit_yaml(folder / "p.yaml").jobs[0]


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "bundled"])
def test_the_next_jobs_find_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    cache, data = tmp_path / "cache", tmp_path / "data"
    monkeypatch.setenv("TITAN_RUNTIME_CACHE", str(cache))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "main.py").write_text("print('from the archive')")
    small, large = tmp_path / "small.py", tmp_path / "large.py"
    small.write_text("print('small')")
    noise = random.Random(1).randbytes(30_000).hex()
    large.write_text(f"print('large')\nnoise = '{noise}'")
    expected = {"small": "small\n", "large": "large\n", "project": "from the archive\n"}
    with (
        LocalCluster({"GENERAL": 1}, data_dir=data, strict_titan=strict) as running,
        TitanClient(running.host, running.port) as client,
    ):
        for _ in range(2):
            handles = {
                "small": client.submit_job(TitanJob(f"s-{uuid.uuid4().hex[:8]}", str(small))),
                "large": client.submit_job(TitanJob(f"l-{uuid.uuid4().hex[:8]}", str(large))),
                "project": submit_project(client, folder),
            }
            for kind, handle in handles.items():
                assert handle.wait(timeout=300).attempts == 1, kind
                assert handle.logs() == expected[kind]
            uploads = [path for path in data.rglob("titan-*") if path.is_file() and cache not in path.parents]
            needed = {"runtime", "blob", "project"} if strict else {"blob", "project"}
            assert {path.name.split("-")[1] for path in uploads} >= needed
            for path in uploads:
                path.unlink()
            shutil.rmtree(cache, ignore_errors=True)  # a forked launcher needs no copy
