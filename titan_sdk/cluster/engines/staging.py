"""From a job line to a command: files put in place, working directory made, nothing started.

Paths are text where every job comes by: making ``Path`` objects took longer than all else that is done for a short one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from titan_sdk.cluster.artifacts import OutsideArea
from titan_sdk.cluster.engines.archives import ArchiveRefused, split_pointer, unpack
from titan_sdk.cluster.engines.base import NoRoom, RunRequest, StagingFailed
from titan_sdk.cluster.folders import safe_name
from titan_sdk.errors import PeerProtocolError
from titan_sdk.model.rules import DAG_PREFIX
from titan_sdk.runtime.worker import interpreter
from titan_sdk.wire.fields import decode_base64
from titan_sdk.wire.jobs import DEPLOY_PAYLOAD, RUN_ARCHIVE, RUN_PAYLOAD, START_ARCHIVE_SERVICE, JobLine
from titan_sdk.wire.launch import grace_of, is_launcher, takes_any_python

__all__ = [
    "ARCHIVES",
    "PASSING",
    "SERVICES",
    "Command",
    "NoRoom",
    "StagingFailed",
    "StagingFolders",
    "graces",
    "remove_beside",
    "split_args",
    "stage",
]

ARCHIVES = frozenset({RUN_ARCHIVE, START_ARCHIVE_SERVICE})
SERVICES = frozenset({DEPLOY_PAYLOAD, START_ARCHIVE_SERVICE})
_OWN_FILE = 0o600
_BESIDE = ".beside"
"""The link in a run's folder to its script in the workspace."""
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}
"""Errors of a machine that is full, of files or of processes: what failed with them may succeed in a moment."""


@dataclass(frozen=True, slots=True)
class Command:
    argv: tuple[str, ...]
    cwd: str
    python: bool
    """Whether it is this Python on a script, unbuffered."""
    launcher: str | None = None
    """The script, if it is one for whatever Python is first on the PATH: that of a job with the runtime."""


class StagingFolders:
    """Private folders of runs. An old one is renamed for the next run, and so is the file in it: on some file
    systems making and removing them costs more than all else that is done for a short job.
    """

    def __init__(self) -> None:
        self._spare: dict[str, list[tuple[str, str]]] = {}
        """Folder and name of the file in it, or of none, by the folder they are in."""

    def put(self, place: str | Path, name: str, data: bytes) -> str:
        """Make this folder, which does not exist, with this file in it; the file's path."""
        folder = os.fspath(place)
        try:
            return self._put(folder, name, data)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _put(self, folder: str, name: str, data: bytes) -> str:
        path = f"{folder}/{name}"
        spare = self._spare.get(os.path.dirname(folder))
        if spare:
            found, left = spare.pop()
            os.rename(found, folder)
            if left and left != name:
                os.rename(f"{folder}/{left}", path)
        else:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        # Cut after writing: ext4 sends what is written to an emptied file to the disk at once, and waits for it.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _OWN_FILE)
        with open(descriptor, "wb", buffering=0) as file:
            size, written = len(data), 0
            while written < size:
                written += file.write(data[written:])
            if os.fstat(descriptor).st_size > size:
                os.ftruncate(descriptor, size)
        return path

    def put_beside(self, place: str | Path, workspace: Path, run: str, name: str, data: bytes) -> str:
        """Put the script into the workspace itself, where a real worker has it, so that what a job leaves beside its
        file is found by others. Its name there is the run's own: two scripts of one name are two files, and no script
        is a module that another one imports.
        """
        stem, suffix = os.path.splitext(name)
        path = f"{workspace}/{stem[:150]}-{run}{suffix}"
        folder = os.fspath(place)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            # First, so that whoever removes the folder finds the file.
            os.symlink(path, f"{folder}/{_BESIDE}")
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _OWN_FILE)
            with open(descriptor, "wb") as file:
                file.write(data)
        except OSError:
            remove_beside(folder)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return path

    def give_back(self, place: str | Path) -> None:
        """The run is over: remove what is in its folder, but a file that the next run's is written over."""
        folder, left = os.fspath(place), ""
        remove_beside(folder)
        try:
            for name in os.listdir(folder):
                path = f"{folder}/{name}"
                if not left and _reusable(path):
                    left = name
                else:
                    os.unlink(path)
        except FileNotFoundError:
            return
        except OSError:
            # Something else than files: not the ordinary case, so no shortcut.
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._spare.setdefault(os.path.dirname(folder), []).append((folder, left))


def remove_beside(folder: str | Path) -> None:
    """Remove the script that a run has in the workspace."""
    with contextlib.suppress(OSError):
        os.unlink(os.readlink(f"{os.fspath(folder)}/{_BESIDE}"))


def _reusable(path: str) -> bool:
    """Whether nobody can meet the file again who has it now. A shell reads its script bit by bit as it goes on, so
    one that a job left behind would go on with the next job's.
    """
    found = os.lstat(path)
    return (
        path.endswith(".py")
        and stat.S_ISREG(found.st_mode)
        and stat.S_IMODE(found.st_mode) == _OWN_FILE
        and found.st_nlink == 1
        and found.st_uid == os.geteuid()
    )


def split_args(args: str) -> list[str]:
    """As a real worker does: cut at spaces, no quoting, empty pieces dropped (protocol section 5.1)."""
    return [piece for piece in (part.strip() for part in args.split(" ")) if piece]


def graces(line: JobLine) -> tuple[float, float]:
    """The grace of a run of this script, and that of what its killed first process leaves."""
    try:
        script = decode_base64(line.content_b64.strip()) if line.header == RUN_PAYLOAD else b""
    except PeerProtocolError:
        script = b""
    return grace_of(script)


class Places(Protocol):
    """Where the folders of a worker's jobs are."""

    def workspace(self, worker: str) -> Path: ...

    def staging(self, worker: str, run: str) -> str | Path:
        """The private folder of one run's script."""


class Archives(Protocol):
    """Where uploaded archives are; see ``artifacts.Area``."""

    def local(self, name: str) -> AbstractContextManager[Path]: ...


def stage(request: RunRequest, data: Places, uploads: Archives, folders: StagingFolders) -> Command:
    """Put the job's files in place. May take long for an archive; touches only this run's own files.

    Raises:
        StagingFailed: the job can never run as it is.
        NoRoom: it can once there is room; nothing is left of it.
    """
    line = request.line
    try:
        if line.header in ARCHIVES:
            return _stage_archive(request, data, uploads)
        if line.header in {RUN_PAYLOAD, DEPLOY_PAYLOAD}:
            return _stage_script(request, data, folders)
    except OSError as exc:
        kind = NoRoom if exc.errno in PASSING else StagingFailed
        raise kind(f"its files could not be put in place: {exc}") from exc
    raise StagingFailed(f"{line.header!r} is no kind of job; use RUN_PAYLOAD, DEPLOY_PAYLOAD or an archive")


def _stage_script(request: RunRequest, data: Places, folders: StagingFolders) -> Command:
    line = request.line
    service = line.header in SERVICES
    try:
        content = decode_base64(line.content_b64.strip())
    except PeerProtocolError as exc:
        raise StagingFailed(f"its script is not valid base64: {exc}") from exc
    name = os.path.basename(line.filename.strip())
    staging, workspace = data.staging(request.worker, request.run), data.workspace(request.worker)
    if service or is_launcher(content) or not line.job_id.startswith(DAG_PREFIX):
        script = folders.put(staging, name, content)
    else:
        script = folders.put_beside(staging, workspace, request.run, name, content)
    cwd = os.fspath(workspace)
    if not service:
        cwd += "/shared" if line.job_id.startswith(DAG_PREFIX) else f"/{safe_name(line.job_id)}"
    if not os.path.isdir(cwd):
        Path(cwd).mkdir(mode=0o700, parents=True, exist_ok=True)
    # A service gets no arguments: DEPLOY_PAYLOAD has no field for them.
    args = [] if service else split_args(line.args)
    argv = _service_command(script) if service else (*_interpreter(script), *args)
    launcher = script if script.endswith(".sh") and takes_any_python(content) else None
    return Command(argv, cwd, argv[:3] == (sys.executable, "-u", script), launcher)


def _stage_archive(request: RunRequest, data: Places, uploads: Archives) -> Command:
    line = request.line
    try:
        name, entry = split_pointer(line.filename.strip())
        folder = data.workspace(request.worker) / safe_name(line.job_id)
        try:
            with uploads.local(name) as archive:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(mode=0o700, parents=True)
                unpack(archive, folder)
        except (OutsideArea, FileNotFoundError) as exc:
            raise ArchiveRefused(
                "it is not among the uploaded files; upload it before submitting the job"
            ) from exc
    except ArchiveRefused as exc:
        raise StagingFailed(f"the archive {line.filename.strip()!r} was refused: {exc}") from exc
    script = folder / entry
    if not script.resolve().is_relative_to(folder.resolve()) or not script.is_file():
        raise StagingFailed(f"the archive {name!r} has no file {entry!r}")
    begin = _service_command if line.header in SERVICES else _interpreter
    argv = (*begin(str(script)), *split_args(line.args))
    return Command(argv, str(script.parent), argv[:3] == (sys.executable, "-u", str(script)))


def _service_command(script: str) -> tuple[str, ...]:
    """A service has no runtime that would look at its first line, so the master does."""
    suffix = os.path.splitext(script)[1]
    kind = {".py": "python", ".sh": "shell"}.get(suffix, "executable")
    os.chmod(script, 0o700)
    try:
        found = interpreter.command(os.fsencode(script), kind, os.environ.get("PATH", os.defpath), runner=b"")
    except ValueError as exc:
        raise StagingFailed(f"it cannot be started: {exc}") from exc
    return tuple(map(os.fsdecode, found))


def _interpreter(script: str) -> tuple[str, ...]:
    if script.endswith(".py"):
        return (sys.executable, "-u", script)
    if script.endswith(".sh"):
        return ("/bin/bash", script)
    raise StagingFailed(f"{os.path.basename(script)!r} is neither a .py nor a .sh file")


def job_port(line: JobLine) -> int | None:
    """The port of a service's line, or ``None`` if it is no port number."""
    text = line.port.strip()
    return int(text) if text.isascii() and text.isdigit() and int(text) <= 65535 else None
