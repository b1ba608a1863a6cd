"""Plays the blocks of a Markdown page as a reader would, in one folder, against one cluster."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.examples.markdown import Block
from tests.rules.sources import ROOT

BLOCK_SECONDS = 300
DEFAULT_HOST, DEFAULT_PORT = "localhost", "9090"
SERVICE_PORT = "18651"
"""On which a page's service listens."""


class Player:
    """State between the blocks of one page: files, variables, what the last block printed."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.host, _, self.port = address.rpartition(":")
        self.environ = dict(os.environ) | {
            "TITAN_HOST": self.host,
            "TITAN_PORT": self.port,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "TITAN_REPO": str(ROOT),
            "XDG_STATE_HOME": str(folder / "state"),
            # What a reader installs, the page's own way, is checked for existence, not downloaded again.
            "PIP_DRY_RUN": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this one the other way round: 0 means no isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self.output = ""
        self.service_port = str(free_port())

    def play(self, block: Block) -> None:
        """Do what the block's comment says; an AssertionError tells what the reader would have seen."""
        getattr(self, f"_{block.what}")(block)

    # -- one method for each word of tests/examples/markdown.py ----------------------------------------

    def _run(self, block: Block) -> None:
        if block.language == "python":
            script = self.folder / f"block_{block.line}.py"
            script.write_text(self._here(block.text), encoding="utf-8")
            self._execute([sys.executable, script.name])
        elif block.language == "bash":
            self._execute(["bash", "-euo", "pipefail", "-c", self._here(block.text)])
        else:
            raise AssertionError(f"{block}: nothing says what to do with a block in {block.language!r}")

    def _save(self, block: Block) -> None:
        path = self.folder / block.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text.replace(SERVICE_PORT, self.service_port), encoding="utf-8")

    def _dag(self, block: Block) -> None:
        self._save(block)
        found = re.search(r"DAG\(\s*\"(\w+)\"", block.text)
        assert found, f"{block}: no DAG id"
        environ = {"AIRFLOW__CORE__DAGS_FOLDER": str(self.folder)}
        self._execute([sys.executable, "-m", "airflow", "dags", "test", found[1]], environ)

    def _env(self, block: Block) -> None:
        before = {"PATH": os.environ["PATH"]}
        script = f"set -a\n{self._here(block.text)}\nenv -0"
        shown = subprocess.run(
            ["bash", "-euc", script], env=before, capture_output=True, text=True, check=True
        )
        pairs = dict(pair.split("=", 1) for pair in shown.stdout.split("\0") if pair)
        self.environ |= {
            name: value for name, value in pairs.items() if name.startswith(("AIRFLOW", "TITAN"))
        }

    def _output(self, block: Block) -> None:
        printed = self.output.splitlines()
        for wanted in filter(str.strip, block.text.splitlines()):
            pattern = ".*".join(re.escape(part) for part in wanted.strip().split("..."))
            assert any(re.search(pattern, line) for line in printed), f"not printed: {wanted}\n{self.output}"

    def _stays(self, block: Block) -> None:
        """Start it on a port of its own (the README's may be taken), talk to it, stop it as Ctrl-C does."""
        port = free_port()
        command = ["bash", "-c", f"exec {block.text.strip()} --port {port}"]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            wait_for_port(port, process, BLOCK_SECONDS)
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 0, f"{block}: exit status {process.returncode} after Ctrl-C"
        finally:
            process.kill()
            process.wait()

    def _shown(self, block: Block) -> None:
        assert block.language == "text", f"{block}: a drawing, not code"

    def _ci(self, block: Block) -> None:
        called = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
        for line in filter(None, (line.partition("#")[0].strip() for line in block.text.splitlines())):
            assert line in called, f"{block}: .ci/run does not run {line!r}"

    # ---------------------------------------------------------------------------------------------------

    def _here(self, text: str) -> str:
        """The text with the address of the master that the tests use."""
        return text.replace(DEFAULT_HOST, self.host).replace(DEFAULT_PORT, self.port)

    def _execute(self, command: list[str], environ: dict[str, str] | None = None) -> None:
        started = time.monotonic()
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ | (environ or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS,
        )
        self.output = done.stdout + done.stderr
        took = time.monotonic() - started
        assert done.returncode == 0, f"exit status {done.returncode} after {took:.1f} s\n{self.output}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until something listens there; fails when the process ends first."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended with {process.returncode} before it listened"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port} after {seconds:g} s")
