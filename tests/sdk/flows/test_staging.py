"""From jobs to lines: what is read from the disk."""

from __future__ import annotations

from pathlib import Path

from titan_sdk import ClientConfig, TitanJob
from titan_sdk.flows.core import Blocking, Run
from titan_sdk.flows.staging import stage
from titan_sdk.session import Session


def test_a_file_that_many_jobs_share_is_read_once(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared.py", tmp_path / "own.py"
    shared.write_text("print('shared')")
    own.write_text("print('own')")
    jobs = [
        TitanJob("plain", str(shared), runtime=False),
        TitanJob("with", str(shared)),
        TitanJob("other", str(own), runtime=False),
        TitanJob("packed", "code.zip/main.py", is_archive=True, runtime=False),
    ]
    run = Run(stage(Session(ClientConfig()), jobs, "0" * 16, {job.full_id: () for job in jobs}, {}))
    reads = 0
    while run.step is not None:
        assert isinstance(run.step, Blocking)
        reads += 1
        run.answer(run.step.function())
    lines = run.result.lines
    assert (reads, len(lines)) == (2, 4)
    assert lines["DAG-plain"].content_b64 != lines["DAG-other"].content_b64
