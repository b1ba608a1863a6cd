"""The command as a process: entry points, help, interruption, a reader that goes away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Master
from titan_sdk import TitanClient, __version__

TITAN = [sys.executable, "-m", "titan_sdk"]


@pytest.fixture
def environment(cluster: Master) -> dict[str, str]:
    return {**os.environ, "TITAN_HOST": cluster.host, "TITAN_PORT": str(cluster.port)}


def test_the_console_script_and_the_module_are_the_same_command() -> None:
    script = Path(sys.executable).with_name("titan")
    for command in ([str(script)], TITAN, [sys.executable, "-m", "titan_sdk.cli.main"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stdout) == (0, f"titan {__version__}\n"), done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "status",
        "doctor",
        "submit",
        "logs",
        "cancel",
        "upload",
        "dag",
        "store",
        "dag submit",
        "store get",
    ],
)
def test_every_command_has_help(bare, command: str) -> None:
    ran = bare(*command.split(), "--help")
    assert ran.code == 0
    assert "Usage: " in ran.out


@pytest.mark.parametrize("command", ["", "up", "submit", "doctor", "store", "approvals", "xcom gc"])
def test_help_cuts_nothing_on_a_narrow_terminal(command: str) -> None:
    environment = {**os.environ, "COLUMNS": "60"}
    done = subprocess.run(
        [*TITAN, *command.split(), "--help"], capture_output=True, text=True, timeout=300, env=environment
    )
    assert "<bool>" not in done.stdout
    assert "list[" not in done.stdout, "a type of Python's"
    assert "…" not in done.stdout
    assert not re.search(r"\w\.\.\.$", done.stdout, re.MULTILINE), "a sentence that is cut"
    assert max(len(line) for line in done.stdout.splitlines()) <= 60


def test_the_many_options_of_up_stand_under_headings(bare) -> None:
    lines = bare("up", "--help").out.splitlines()
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        "Options:",
        "Ray:",
        "Storage:",
        "Security:",
        "Operation:",
    ]


def test_help_lists_the_commands_and_the_exit_codes(bare) -> None:
    words = " ".join(bare("--help").out.split())
    assert "7 the outcome is unknown, ask before repeating" in words
    assert all(name in words for name in ("up", "status", "doctor", "submit", "logs", "cancel", "upload"))


def test_ctrl_c_while_waiting_leaves_the_job_and_says_how_to_end_it(
    environment: dict[str, str], tmp_path: Path, client: TitanClient
) -> None:
    script = tmp_path / "slow.py"
    script.write_text("import time\nprint('started', flush=True)\ntime.sleep(600)\n")
    job_id = f"interrupted-{os.getpid()}"
    process = subprocess.Popen(
        [*TITAN, "submit", str(script), "--id", job_id, "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == f"titan: interrupted; the job goes on, `titan cancel {job_id}` ends it\n"
    assert client.get_job_status(job_id) == "RUNNING"
    assert client.cancel_job(job_id) == "CANCELLED"


def test_a_reader_that_goes_away_is_no_traceback(
    environment: dict[str, str], client: TitanClient, tmp_path: Path
) -> None:
    key = f"big-{os.getpid()}"
    client.store_put(key, "line\n" * 200_000)
    process = subprocess.Popen(
        [*TITAN, "store", "get", key],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.wait(timeout=120) in {0, 1}
    assert process.stderr.read() == ""
    process.stderr.close()


def test_output_that_the_terminal_cannot_show_is_escaped(
    environment: dict[str, str], client: TitanClient
) -> None:
    client.store_put("cli-unicode", "grüß 日")
    done = subprocess.run(
        [*TITAN, "store", "get", "cli-unicode"],
        capture_output=True,
        timeout=300,
        env={**environment, "PYTHONIOENCODING": "latin-1"},
    )
    assert (done.returncode, done.stdout) == (0, "grüß \\u65e5\n".encode("latin-1"))
