"""The layout of a data directory, its lock, and names that are safe to use as file names."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import secrets
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

from titan_sdk.cluster.disk import advice, sync_way, write_synced
from titan_sdk.errors import TitanError

__all__ = ["LOG", "DataDir", "safe_name", "socket_folder"]

LOG = ".log"
"""The suffix of log files."""
_MAX_NAME = 180
_MAX_SOCKET_FOLDER = 90
"""The longest path of a socket's folder: the kernel accepts socket paths of up to 107 bytes."""


@functools.lru_cache(maxsize=4096)
def safe_name(text: str) -> str:
    """A safe file name for the text: the text itself if it is safe. Different texts get different names."""
    name = quote(text, safe=" +=@,", errors="surrogatepass").replace("~", "%7E")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if not name or len(name) > _MAX_NAME:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        name = f"{name[:100]}~{digest}"
    return name


def socket_folder(root: Path) -> Path:
    """The folder of a data directory's sockets, which only this user can enter; elsewhere if its path is too long.

    Raises:
        TitanError: there is no usable folder.
    """
    folder = root / "local"
    try:
        if len(os.fsencode(folder)) > _MAX_SOCKET_FOLDER:
            # Named by the inode number, which a rename does not change.
            found = root.stat()
            name = f"titan-{os.getuid()}-{found.st_dev:x}-{found.st_ino:x}"
            folder = Path(tempfile.gettempdir()) / name
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as exc:
        raise TitanError(f"cannot make {folder} for its sockets: {exc}") from exc
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise TitanError(
            f"{folder}, for sockets, can be entered by others; remove it, or give a data_dir with "
            "a shorter path"
        )
    return folder


class DataDir:
    """A master's data directory, locked for this process.

    Args:
        synced: whether the folders created here survive a power cut.

    Raises:
        TitanError: the folder cannot be written, or another master uses it.
    """

    def __init__(self, root: Path, *, synced: bool = False) -> None:
        self.root = root
        self.database = root / "master.sqlite3"
        self.logs = root / "logs"
        self._logs = str(self.logs)
        self.uploads = root / "uploads"
        self.scripts = root / "perm_files"
        self.ends = root / "ends"
        self.workers = root / "workers"
        self._workspaces: dict[str, Path] = {}
        try:
            for folder in (root, self.logs, self.uploads, self.scripts, self.workers):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if synced:
                sync_way(root)
            self._lock = os.open(root / "master.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise TitanError(
                f"cannot use {root} as the master's data directory: {exc}; {advice(exc, root)}"
            ) from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            owner = os.pread(self._lock, 64, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise TitanError(
                f"another master (process {owner}) uses {root}; stop it, or give this one another data_dir"
            ) from exc
        except OSError as exc:
            os.close(self._lock)
            raise TitanError(f"cannot lock {root}: {exc}; {advice(exc, root)}") from exc
        with contextlib.suppress(OSError):
            # Only for people, so a full disk is ignored here; the next necessary write reports it.
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode("ascii"), 0)

    def cluster_id(self) -> str:
        """The cluster's id, chosen at first use."""
        path = self.root / "cluster-id"
        try:
            return path.read_text("ascii").strip()
        except FileNotFoundError:
            # A partial id would be another id after the next start.
            write_synced(path, f"{secrets.token_hex(8)}\n".encode("ascii"))
            return path.read_text("ascii").strip()

    def release(self) -> None:
        """Let another master use the folder."""
        os.close(self._lock)

    def jobs_socket(self) -> Path:
        """The socket for jobs of a master with TLS or a token: the same path for every master of this folder.

        Raises:
            TitanError: there is no folder that only this user can enter.
        """
        return socket_folder(self.root) / "jobs.sock"

    def log_file(self, job_id: str) -> Path:
        return Path(self.log_path(job_id))

    def log_path(self, job_id: str) -> str:
        """The path of a job's log as text, because ``Path`` objects are slow and every job needs it."""
        return f"{self._logs}/{safe_name(job_id)}{LOG}"

    def workspace(self, worker: str) -> Path:
        """The workspace of a worker's jobs: one for all workers of a tag. A real worker has four slots and one folder, and
        programs written for it expect the jobs of a DAG there.
        """
        # Cached: every job needs it several times, and ``Path`` objects are slow.
        found = self._workspaces.get(worker)
        if found is None:
            tag = worker.rpartition("-")[0] or worker
            found = self._workspaces[worker] = self.workers / safe_name(tag) / "titan_workspace"
        return found

    def staging(self, worker: str, run: str) -> str:
        """The private folder of one run's script, without other files."""
        return f"{self.workspace(worker)}/.runs/{run}"
