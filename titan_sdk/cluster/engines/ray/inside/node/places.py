"""Folders of a node: where jobs of this cluster run, and where their files wait."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from titan_sdk.cluster.folders import safe_name

__all__ = ["NodePlaces"]


class NodePlaces:
    """One tree per cluster and node, shared by the node's worker processes.

    Raises:
        OSError: it cannot be made, or belongs to somebody else.
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
        self.sockets = base
        self.work = self.root / "titan_workspace"
        for folder in (self.archives, self.runs, self.outputs, self.work):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def workspace(self, _worker: str) -> Path:
        """Where its jobs work; one for all of a node's jobs, as on a real worker."""
        return self.work

    def staging(self, _worker: str, run: str) -> str:
        """The private folder of one run's script."""
        return f"{self.runs}/{run}"

    def output(self, run: str) -> str:
        """Where the run's output waits until the front has it."""
        return f"{self.outputs}/{run}"
