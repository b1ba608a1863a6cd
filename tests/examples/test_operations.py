"""The systemd unit and the container file of docs/operations.md start a master that serves, and that ends when it is told to."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.examples.markdown import blocks
from tests.rules.sources import ROOT
from titan_sdk import ClientConfig, TitanClient

# Slow: The commands of the page start masters of their own.
pytestmark = pytest.mark.slow

TOKEN = "a-token-of-twenty-six-chars"
TITAN = Path(sys.executable).with_name("titan")
PAGE = ROOT / "docs/operations.md"


def saved(name: str) -> str:
    """The text that the page says to save under this name."""
    (block,) = (block for block in blocks(PAGE) if block.what == "save" and block.name == name)
    return block.text


def unit_command(folder: Path) -> list[str]:
    line = saved("titan.service").replace("\\\n", " ").partition("ExecStart=")[2].partition("\n")[0]
    for of_the_page, here in {
        "/opt/titan/bin/titan": str(TITAN),
        "/var/lib/titan": str(folder / "data"),
        "${CREDENTIALS_DIRECTORY}": str(folder),
    }.items():
        assert of_the_page in line
        line = line.replace(of_the_page, here)
    return shlex.split(line)


def container_command(folder: Path) -> list[str]:
    lines = dict(line.split(" ", 1) for line in saved("Containerfile").splitlines())
    words = [*json.loads(lines["ENTRYPOINT"]), *json.loads(lines["CMD"])]
    return [
        {"titan": str(TITAN), "/home/titan/data": str(folder / "data"), "/run/secrets/titan_token": str(folder / "token")}
        .get(word, word)
        for word in words
    ]  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.mark.parametrize("command", [unit_command, container_command])
def test_the_command_serves_and_ends_at_sigterm(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    health = free_port()
    line = [str(health) if word == "9091" else word for word in command(tmp_path)]
    assert str(health) in line
    # A port of its own, as 9090 may be in use here; --json to be told which.
    process = subprocess.Popen(
        [line[0], "--json", *line[1:], "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        with TitanClient(config=ClientConfig("127.0.0.1", port, auth_token=TOKEN)) as client:
            assert client.cluster_stats().workers
        with urllib.request.urlopen(f"http://127.0.0.1:{health}/health", timeout=60) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_images_user_owns_the_folder_of_the_volume() -> None:
    """A folder that an engine makes for a volume would belong to root, and no master can begin in it."""
    as_root, _, rest = saved("Containerfile").partition("USER titan\n")
    (volume,) = (line.removeprefix("VOLUME ") for line in rest.splitlines() if line.startswith("VOLUME "))
    assert f"install --directory --owner=titan --mode=700 {volume}\n" in as_root


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "titan.service"
    unit.write_text(saved("titan.service").replace("/opt/titan/bin/titan", str(TITAN)))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
