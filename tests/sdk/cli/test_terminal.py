"""What a person sees on a terminal: a real one, with its lines put together as a terminal does."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Master
from titan_sdk import TitanClient

JOB = """\
import sys, time
print("first line", flush=True)
for percent in range(0, 101, 20):
    print(f"\\rloading {percent}%", end="", flush=True)
    time.sleep(0.3)
print()
print("last line")
"""


def screen(text: str) -> list[str]:
    """The lines that a terminal of unlimited height shows, of what rich and the command use of it."""
    lines, row, column = [""], 0, 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part.startswith("\x1b["):
            row -= int(part[2:-1] or 1) if part.endswith("A") else 0
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


def on_a_terminal(cluster: Master, *command: str, columns: int = 120) -> str:
    """All that the command writes to a pseudo-terminal."""
    near, far = pty.openpty()
    environment = {**os.environ, "TITAN_HOST": cluster.host, "TITAN_PORT": str(cluster.port)}
    environment |= {"TERM": "xterm", "COLUMNS": str(columns)}
    process = subprocess.Popen(
        [sys.executable, "-m", "titan_sdk", *command], stdin=far, stdout=far, stderr=far, env=environment
    )
    os.close(far)
    written = b""
    while True:
        try:
            piece = os.read(near, 65536)
        except OSError:  # the other end is closed
            break
        written += piece
    os.close(near)
    assert process.wait(120) == 0, written
    return written.decode()


@pytest.fixture
def job(tmp_path: Path) -> str:
    path = tmp_path / "bar.py"
    path.write_text(JOB)
    return str(path)


def test_a_jobs_lines_stand_alone_and_its_bar_is_one_line(cluster: Master, job: str) -> None:
    job_id = f"bar-{os.urandom(4).hex()}"
    written = on_a_terminal(cluster, "submit", job, "--wait", "--id", job_id)
    *lines, report = screen(written)
    assert lines == ["first line", "loading 100%", "last line"]
    assert report.startswith(f"job '{job_id}' completed")
    assert re.search(r"running on GENERAL-\d  loading [2468]0%", written), "the bar is seen while it moves"

    assert screen(on_a_terminal(cluster, "logs", "-f", job_id)) == lines


def test_a_narrow_terminal_shows_every_workers_name_and_the_last_jobs_id(cluster: Master, job: str) -> None:
    job_id = f"narrow-{os.urandom(4).hex()}"
    on_a_terminal(cluster, "submit", job, "--wait", "--id", job_id)
    lines = screen(on_a_terminal(cluster, "status", columns=60))
    assert max(map(len, lines)) <= 60
    assert not [line for line in lines if "…" in line]
    with TitanClient(cluster.host, cluster.port) as client:
        names = {worker.name for worker in client.cluster_stats().workers}
    cells = [line.strip("│").split("│") for line in lines if line.startswith("│")]
    assert names <= {row[0].strip() for row in cells}
    assert job_id in "".join(row[-1].strip() for row in cells)


def test_a_project_that_is_uploaded_shows_how_far_it_is(cluster: Master, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("print('ran')")
    (tmp_path / "weights.bin").write_bytes(os.urandom(9_000_000))
    command = ("submit", "--project", str(tmp_path), "main.py", "--wait")
    first = on_a_terminal(cluster, *command)
    assert re.search(r"uploading \S+ .*9\.0 MB", first)
    assert screen(first)[0] == "ran"
    assert "uploading" not in on_a_terminal(cluster, *command)
