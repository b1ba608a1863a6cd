"""strace, attached to processes that run, and always let go of."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.support.process_watch import wait_for

__all__ = ["Tracer"]

_PATIENCE = 5.0


class Tracer:
    """Attached while it is entered.

    Args:
        options: words for strace, without the processes.
        said: a file for its own words.
    """

    def __init__(self, options: list[str], pids: list[int], said: Path) -> None:
        self._options, self._pids, self._said = options, pids, said

    def __enter__(self) -> Tracer:
        command = ["strace", *self._options, *(f"--attach={pid}" for pid in self._pids)]
        with self._said.open("wb") as file:
            self._process = subprocess.Popen(command, stderr=file)
        try:
            wait_for(self._is_attached, 120)
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def _is_attached(self) -> bool:
        said = self._said.read_text()
        assert self._process.poll() is None, said
        return all(f"Process {pid} attached" in said for pid in self._pids)

    def _let_go(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            # It waits for a process that has just begun a vfork, and that one for its child, which is traced too and so
            # stands still until strace is done with the first. The kernel lets both of them go.
            self._process.kill()
            self._process.wait()
