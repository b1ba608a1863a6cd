"""titan up as a process: announces itself, serves, and ends cleanly on SIGTERM."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from titan_sdk import InvalidArgument, JobStatus, TitanClient, TitanJob
from titan_sdk.cli.options import parse_workers

# Slow: Each test starts and ends a master as a process.
pytestmark = pytest.mark.slow

Start = Callable[..., "Up"]


class Up:
    """A running ``titan up``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.line = process.stdout.readline()

    @property
    def facts(self) -> Any:
        return json.loads(self.line)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=120)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``titan up --port 0`` with more arguments; returns once it has said where it is."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> Up:
        process = subprocess.Popen(
            [sys.executable, "-m", "titan_sdk", "up", "--port", "0", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
        )
        started.append(process)
        return Up(process)

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_the_address_is_a_line_of_json(start: Start, tmp_path: Path) -> None:
    up = start("--json", "--workers", "GENERAL=1,HIGH_MEM=2", "--slots", "3", "--data-dir", tmp_path / "data")
    facts = up.facts
    assert facts["event"] == "listening"
    assert facts["address"] == f"127.0.0.1:{facts['port']}"
    assert (facts["workers"], facts["slots"]) == ({"GENERAL": 1, "HIGH_MEM": 2}, 3)
    assert (facts["data_dir"], facts["pid"]) == (str(tmp_path / "data"), up.process.pid)
    with TitanClient(facts["host"], facts["port"]) as client:
        stats = client.cluster_stats()
        assert stats.tags == {"GENERAL": 1, "HIGH_MEM": 2}
        assert {worker.slots for worker in stats.workers} == {3}
    assert up.end() == 0


def test_people_get_a_sentence_and_jobs_run(start: Start, tmp_path: Path) -> None:
    up = start()
    assert up.line.startswith("Titan master listening on 127.0.0.1:")
    assert "(workers GENERAL=2, GPU=1; data in " in up.line
    port = int(up.line.split()[4].partition(":")[2])
    script = tmp_path / "hello.py"
    script.write_text("print('hello')\n")
    with TitanClient("127.0.0.1", port) as client:
        handle = client.submit_job(TitanJob("hello", str(script)))
        assert handle.wait(120).state is JobStatus.COMPLETED
    assert up.end(signal.SIGINT) == 0
    assert up.process.stderr is not None
    assert up.process.stderr.read() == "titan: stopping; jobs that run are ended\ntitan: stopped\n"


def test_what_it_says_of_jobs_that_run_is_so(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = start("--json", "--data-dir", data)
    script = tmp_path / "long.py"
    script.write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    with TitanClient("127.0.0.1", first.facts["port"]) as client:
        for attempts in (1, 2):
            client.submit_job(TitanJob(f"of-{attempts}", str(script), max_attempts=attempts))
        for attempts in (1, 2):
            next(client.follow_logs(f"of-{attempts}"))
    assert first.end(signal.SIGINT) == 0
    assert first.process.stderr is not None
    assert first.process.stderr.read() == (
        "titan: stopping; jobs that run are ended, and those with attempts left run again under the next master of "
        f"{data}\ntitan: stopped\n"
    )
    second = start("--json", "--data-dir", data)
    with TitanClient("127.0.0.1", second.facts["port"]) as client:
        assert client.job_handle("of-1").wait(120, raise_on_failure=False).attempts == 1
        assert "begun" in list(itertools.islice(client.follow_logs("of-2"), 3))[-1]
    assert second.end() == 0


def test_what_the_master_knew_outlives_it(start: Start, tmp_path: Path) -> None:
    first = start("--json", "--data-dir", tmp_path / "data")
    with TitanClient("127.0.0.1", first.facts["port"]) as client:
        client.store_put("k", "grüß dich")
    assert first.end() == 0
    second = start("--json", "--data-dir", tmp_path / "data")
    with TitanClient("127.0.0.1", second.facts["port"]) as client:
        assert client.store_get("k") == "grüß dich"
    assert second.end() == 0


def test_people_are_told_options_of_the_command_not_parameters_of_python(bare, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = bare("up", "--port", 0, "--data-dir", tmp_path / "file" / "data")
    assert ran.code == 1
    assert "give another --data-dir" in ran.err
    assert "data_dir" not in ran.err


def test_a_port_in_use_is_a_sentence(start: Start, bare, tmp_path: Path) -> None:
    port = start("--json").facts["port"]
    ran = bare("up", "--port", port, "--data-dir", tmp_path / "other")
    assert ran.code == 1
    assert str(port) in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 is reachable from other machines"),
        (["--host", "titan.example.org"], "add --insecure if the network is yours"),
        (["--workers", "GENERAL"], None),
        (["--workers", "GENERAL=two"], "--workers: 'GENERAL=two' is not TAG=NUMBER"),
        (["--workers", "GENERAL:2"], "a tag cannot hold ':' ('GENERAL:2'); did you mean GENERAL=2?"),
        (["--workers", "=2"], "--workers: '=2' is not TAG=NUMBER"),
        (["--workers", "GPU=1,GPU=1"], "--workers: 'GPU=1' is not TAG=NUMBER, each tag once"),
        (["--workers", "GPU=0"], "0 workers: a cluster has 1 to 1000"),
        (["--slots", "0"], "--slots 0: give 1 to 1000"),
        (["--keep-days", "-1"], "--keep-days -1: give more than 0, or 0 for never"),
        (["--keep-days", "nan"], "--keep-days nan: give more than 0, or 0 for never"),
        (["--ageing", "-5"], "--ageing -5: give more than 0, or 0 for never"),
        (["--drain", "-1"], "--drain -1: give 0 or more"),
        (["--log-limit", "0"], "--log-limit 0: give 1 or more"),
        (["--metrics-port", "70000"], "--metrics-port 70000: give 0 to 65535"),
        (["--port", "70000"], "--port 70000: give 0 to 65535"),
    ],
)
def test_wrong_settings_are_exit_code_2(bare, arguments: list[str], words: str | None) -> None:
    if words is None:
        assert parse_workers(arguments[1:]) == {"GENERAL": 1}
        return
    ran = bare("up", *arguments)
    assert ran.code == 2
    assert words in ran.err


def test_workers_may_be_given_in_one_option_or_in_many() -> None:
    wanted = {"GENERAL": 2, "GPU": 1}
    assert parse_workers(["GENERAL=2,GPU=1"]) == wanted
    assert parse_workers([" GENERAL = 2 ", "GPU"]) == wanted
    with pytest.raises(InvalidArgument):
        parse_workers([""])
