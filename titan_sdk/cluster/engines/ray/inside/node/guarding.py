"""The worker's end of the guard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["Guard"]

_PROGRAM = str(Path(__file__).with_name("guard.py"))


class Guard:
    """Started once per worker process; see `guard.py`. Not for two runs at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def open(self, mark: bytes) -> None:
        """A run is about to be started. Nothing may be started if this fails.

        Raises:
            OSError: there is no guard and none can be had.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        self._tell(mark)

    def close(self) -> None:
        """Nothing is left of the run."""
        try:
            self._tell(b"")
        except OSError:
            self._process = None

    def _tell(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()
