"""The worker's end of the guard."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["Guard"]

_PROGRAM = str(Path(__file__).with_name("guard.py"))
_LONGEST = mmap.PAGESIZE


class Guard:
    """Started once per worker process; see `guard.py`. Not for two runs at a time."""

    def __init__(self) -> None:
        self._shared = os.memfd_create("titan-guard")
        os.ftruncate(self._shared, _LONGEST)
        self._mark = mmap.mmap(self._shared, _LONGEST)
        self._tell(b"")
        self._process: subprocess.Popen[bytes] | None = None

    def open(self, mark: bytes) -> None:
        """A run is about to be started. Nothing may be started if this fails.

        Raises:
            OSError: there is no guard and none can be had.
            ValueError: no room for the mark.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _PROGRAM, str(self._shared)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
                pass_fds=[self._shared],
            )
        self._tell(mark)

    def close(self) -> None:
        """Nothing is left of the run."""
        self._tell(b"")

    def _tell(self, line: bytes) -> None:
        self._mark.seek(0)
        self._mark.write(line + b"\n")
