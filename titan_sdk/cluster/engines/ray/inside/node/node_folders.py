"""The folders of a node, for the jobs of this cluster and their files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from titan_sdk.cluster.engines.staging import unstage
from titan_sdk.cluster.folders import safe_name
from titan_sdk.cluster.worker.protocol import ENDED

__all__ = ["NodeFolders"]

_SURELY_LOCKED = 600.0
"""Seconds after which the lock of an output file is certainly held."""


class NodeFolders:
    """One tree per cluster and node, shared by the node's worker processes.

    Raises:
        OSError: it cannot be created, or belongs to another user.
    """

    def __init__(self, cluster: str, node_id: str) -> None:
        base = Path(tempfile.gettempdir()) / f"titan-ray-{os.getuid()}"
        base.mkdir(mode=0o700, exist_ok=True)
        found = base.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(f"{base} can be entered by others; remove it")
        self.root = base / safe_name(f"{cluster}-{node_id[:12]}")
        self.archives = self.root / "archives"
        self.runs = self.root / "runs"
        self.outputs = self.root / "outputs"
        self.ends = self.root / "ends"
        self.sockets = base
        self.work = self.root / "titan_workspace"
        for folder in (self.archives, self.runs, self.outputs, self.ends, self.work):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def workspace(self, _worker: str) -> Path:
        """The workspace: one for all jobs of a node, as on a real worker."""
        return self.work

    def staging(self, _worker: str, run: str) -> str:
        """The private folder of one run's script."""
        return f"{self.runs}/{run}"

    @contextlib.contextmanager
    def output(self, run: str) -> Iterator[tuple[str, int]]:
        """The file that holds the run's output until the front has it: its path and a descriptor. Afterwards all files of
        the run on this node are removed.
        """
        path = f"{self.outputs}/{run}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # the lock distinguishes it from files of dead processes
            yield path, descriptor
        finally:
            os.close(descriptor)
            self._remove(run)

    def read_end(self, run: str) -> str:
        """The launcher's final record of the run, if it is here; see ``FinalRecords``."""
        try:
            return (self.ends / run).read_text("ascii")
        except (OSError, UnicodeError):
            return ""

    def _remove(self, run: str) -> None:
        unstage(self.staging("", run))
        for path in (self.ends / run, self.ends / f"{run}.part", self.outputs / run):
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove files of runs whose Ray worker process was killed, and ends that are not needed."""
        for path in (self.root / ENDED).glob("*"):
            path.unlink(missing_ok=True)
        for path in self.outputs.iterdir():
            with contextlib.suppress(OSError), path.open("rb") as file:
                # A new file is locked a moment after its creation.
                if time.time() - os.fstat(file.fileno()).st_mtime > _SURELY_LOCKED:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._remove(path.name)
