"""The last record of a run, which its launcher leaves in a file: stored with the job's end, whichever master does it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.support.process_watch import wait_for
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.master.final_records import FinalRecord, FinalRecords
from titan_sdk.cluster.master.job_environments import JobEnvironments
from titan_sdk.cluster.store.changes import Swap
from titan_sdk.wire.extensions import StoreSwap

HELD = "import os, sys, titan_job\nopen(sys.argv[1]).close()\ntitan_job.result('done')\nsys.exit(int(sys.argv[2]))\n"


def test_a_record_is_read_until_it_is_forgotten(tmp_path: Path) -> None:
    ends = FinalRecords(tmp_path / "ends")
    record = json.dumps({"state": "failed", "last": True})
    (tmp_path / "ends" / "1.1.ab").write_text(StoreSwap("k", "old", record).encode())
    assert ends.read("1.1.ab") == FinalRecord(Swap("k", "old", record), True)
    ends.forget("1.1.ab")
    assert ends.read("1.1.ab") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"key":"k"}',
        StoreSwap("k", None, "\ud800").encode(),
        "é",
    ],
    ids=range(5),
)
def test_a_file_that_no_launcher_wrote_is_none(tmp_path: Path, text: str) -> None:
    ends = FinalRecords(tmp_path)
    (tmp_path / "1.1.ab").write_text(text, encoding="utf-8")
    assert ends.read("1.1.ab") is None


@pytest.mark.parametrize(
    "record",
    ["", "[" * 100_000, '{"state":"failed"}', '{"state":"succeeded","last":true}', "[1]"],
    ids=range(5),
)
def test_only_a_record_that_says_so_rules_out_another_run(tmp_path: Path, record: str) -> None:
    ends = FinalRecords(tmp_path)
    (tmp_path / "1.1.ab").write_text(StoreSwap("k", None, record).encode())
    assert ends.read("1.1.ab") == FinalRecord(Swap("k", None, record), False)


def test_what_ended_before_is_removed(tmp_path: Path) -> None:
    for name in ("1.1.ab", "2.1.cd", "3.1.ef.part"):
        (tmp_path / name).touch()
    FinalRecords(tmp_path).keep_only({"2.1.cd"})
    assert os.listdir(tmp_path) == ["2.1.cd"]
    nowhere = FinalRecords(None)
    nowhere.keep_only(())
    nowhere.forget("1.1.ab")
    assert nowhere.read("1.1.ab") is None


@pytest.mark.parametrize("by_request", [False, True])
def test_a_job_that_may_not_run_again_is_started_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_request: bool
) -> None:
    if by_request:
        # As on a Ray node, or from a launcher of an earlier version.
        monkeypatch.setattr(JobEnvironments, "ends_of", lambda *_: {})
    script = tmp_path / "job.py"
    script.write_text("print('ran')\nraise SystemExit(3)\n")
    with (
        LocalCluster({"GENERAL": 1}, data_dir=tmp_path / "data") as running,
        TitanClient(running.host, running.port) as client,
    ):
        for allowed in (1, 2):
            job = TitanJob(f"n{allowed}", str(script), max_attempts=allowed)
            report = client.submit_job(job).wait(timeout=120, raise_on_failure=False)
            details = client.job_details(job.job_id)
            assert (
                (report.exit_code, report.attempts) == (details.exit_code, details.attempts) == (3, allowed)
            )
            assert (details.reason, report.log_tail) == (
                "it ended with exit code 3",
                "ran" + "\nran" * (allowed - 1),
            )
        assert os.listdir(tmp_path / "data" / "ends") == []


@pytest.mark.parametrize("code", [0, 7])
def test_a_job_that_ended_without_a_master_has_its_result(tmp_path: Path, code: int) -> None:
    """And it waits for none: what it has to say is in the file."""
    script, fifo = tmp_path / "job.py", tmp_path / "fifo"
    script.write_text(HELD)
    os.mkfifo(fifo)
    master = MasterProcess(tmp_path / "data")
    ends = tmp_path / "data" / "ends"
    try:
        with TitanClient(*master.start().address) as client:
            job = client.submit_job(TitanJob("held", str(script), args=f"{fifo} {code}"))
            with fifo.open("w"):  # it runs
                master.kill()
        wait_for(lambda: [name for name in os.listdir(ends) if not name.endswith(".part")])
        with TitanClient(*master.start().address) as client:
            report = client.job_handle("held", job.nonce).wait(timeout=120, raise_on_failure=False)
            assert (report.exit_code, report.attempts, report.has_result) == (code, 1, True)
            assert client.job_details("held").attempts == 1
            assert os.listdir(ends) == []
    finally:
        master.close()
