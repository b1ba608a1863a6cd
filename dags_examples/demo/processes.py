"""Start what the demo needs in the background, and prove afterwards that all of it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from uuid import uuid4

# Inherited by every descendant, so that one that left its process group is still found.
MARK = "TITAN_DEMO_RUN"
STOP_SECONDS = 15.0


class DemoFailed(Exception):
    """What went wrong, in a sentence for the person who ran the demo."""


class ProcessGroup:
    """The background processes of one demo run; leaving the `with` block ends them."""

    def __init__(self) -> None:
        self.mark = uuid4().hex
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> ProcessGroup:
        os.environ[MARK] = self.mark
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        for process in reversed(self._started):
            _stop(process)
        del os.environ[MARK]

    def start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Run the command in a process group of its own, its output in the log file."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ) | {"PATH": path_with_this_python()},
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def survivors(self, patience: float = 3.0) -> list[int]:
        """Processes of this run that still exist; where there is no /proc, none are found."""
        deadline = time.monotonic() + patience
        while (left := self._marked()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _marked(self) -> list[int]:
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # ended meanwhile, or somebody else's
                continue
        return [pid for pid in found if pid != os.getpid()]


def path_with_this_python() -> str:
    """PATH on which `python3`, `airflow` and `titan` are those of the running interpreter."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        os.killpg(process.pid, number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
