"""From jobs to lines: what is read from the disk."""

from __future__ import annotations

import base64
from pathlib import Path

from titan_sdk import ClientConfig, TitanJob
from titan_sdk.flows.core import Blocking, FlowRun
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
    run = FlowRun(stage(Session(ClientConfig()), jobs, "0" * 16, {job.full_id: () for job in jobs}, {}, {}))
    reads = 0
    while run.step is not None:
        assert isinstance(run.step, Blocking)
        reads += 1
        run.answer(run.step.function())
    lines = run.result.lines
    assert (reads, len(lines)) == (2, 4)
    assert lines["DAG-plain"].content_b64 != lines["DAG-other"].content_b64


def test_inline_scripts_of_one_name_are_each_its_own_and_no_file_is_read(tmp_path: Path) -> None:
    beside = tmp_path / "same.py"
    beside.write_text("print('the file')")
    jobs = [
        TitanJob("one", str(beside), source="print(1)", runtime=False),
        TitanJob("two", str(beside), source="print(2)", runtime=False),
        TitanJob("file", str(beside), runtime=False),
    ]
    run = FlowRun(stage(Session(ClientConfig()), jobs, "0" * 16, {job.full_id: () for job in jobs}, {}, {}))
    while run.step is not None:
        assert isinstance(run.step, Blocking)
        run.answer(run.step.function())
    lines = run.result.lines
    contents = [base64.b64decode(lines[f"DAG-{name}"].content_b64) for name in ("one", "two", "file")]
    assert contents == [b"print(1)", b"print(2)", b"print('the file')"]
    assert list(run.result.scripts) == [str(beside)]


def test_packages_that_a_job_needs_are_in_its_launcher_s_spec() -> None:
    job = TitanJob("needs", source="pass", requirements=["colourful>=1"])
    staged = FlowRun(stage(Session(ClientConfig()), [job], "0" * 16, {"DAG-needs": ()}, {}, {})).result
    stub = base64.b64decode(staged.lines["DAG-needs"].content_b64).decode()
    assert "'packages': {" in stub
