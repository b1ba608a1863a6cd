"""From a job line to a command: files put in place, working directory made, nothing started.

Paths are plain text here: making ``Path`` objects took longer than the rest of a short job's staging.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
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
from titan_sdk.runtime.bundle import runtime_bundle
from titan_sdk.runtime.stub import grace_of, is_launcher, spec_for
from titan_sdk.runtime.worker import interpreter
from titan_sdk.wire.fields import decode_base64
from titan_sdk.wire.jobs import DEPLOY_PAYLOAD, RUN_ARCHIVE, RUN_PAYLOAD, START_ARCHIVE_SERVICE, JobLine

__all__ = [
    "ARCHIVES",
    "PASSING",
    "SERVICES",
    "Command",
    "NoRoom",
    "StagingFailed",
    "graces",
    "split_args",
    "stage",
    "unstage",
]

ARCHIVES = frozenset({RUN_ARCHIVE, START_ARCHIVE_SERVICE})
SERVICES = frozenset({DEPLOY_PAYLOAD, START_ARCHIVE_SERVICE})
_OWN_FILE = 0o600
_BESIDE = ".beside"
"""The link in a run's folder to its script in the workspace. It is relative, so in a copied or renamed folder it leads to that
folder's own script.
"""
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}
"""Errors of a machine without room for files or processes. A later attempt may succeed."""


@dataclass(frozen=True, slots=True)
class Command:
    argv: tuple[str, ...]
    """Empty if there is a ``spec``."""
    cwd: str
    grace: float
    """Seconds between SIGTERM and SIGKILL."""
    rest: float
    """Seconds for the other processes to end after the first one was killed."""
    spec: str | None = None
    """The spec for this SDK's own launcher. A process that has it loaded needs no file."""


def _put(folder: str, name: str, data: bytes) -> str:
    """Create the folder with this file in it. Returns the file's path."""
    path = f"{folder}/{name}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _write(path, data)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return path


def _put_beside(folder: str, workspace: Path, run: str, name: str, data: bytes) -> str:
    """Put the script into the workspace itself, as a real worker does, so that other jobs find the files that a job leaves
    beside its script. The name is unique: scripts of one name are separate files, and no script can import another one.
    """
    stem, suffix = os.path.splitext(name)
    path = f"{workspace}/{stem[:150]}-{run}{suffix}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        # The link comes first, so that the removal of the folder finds the file.
        os.symlink(os.path.relpath(path, folder), f"{folder}/{_BESIDE}")
        _write(path, data)
    except OSError:
        unstage(folder)
        raise
    return path


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _OWN_FILE)
    with open(descriptor, "wb") as file:
        file.write(data)


def unstage(folder: str | Path) -> None:
    """Remove the private folder of an ended run, and its script in the workspace."""
    place = os.fspath(folder)
    try:
        for name in os.listdir(place):
            path = f"{place}/{name}"
            if name == _BESIDE:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(place, os.readlink(path)))
            os.unlink(path)
        os.rmdir(place)
    except FileNotFoundError:
        return
    except OSError:
        # It is no plain file, so a job has put it there.
        shutil.rmtree(place, ignore_errors=True)


def split_args(args: str) -> list[str]:
    """Split arguments as a real worker does: at spaces, without quoting, dropping empty pieces (protocol section 5.1)."""
    return [piece for piece in (part.strip() for part in args.split(" ")) if piece]


def graces(line: JobLine) -> tuple[float, float]:
    """``Command.grace`` and ``Command.rest`` of a job."""
    try:
        script = decode_base64(line.content_b64.strip()) if line.header == RUN_PAYLOAD else b""
    except PeerProtocolError:
        script = b""
    return grace_of(script)


class Places(Protocol):
    """The folders of a worker's jobs."""

    def workspace(self, worker: str) -> Path: ...

    def staging(self, worker: str, run: str) -> str | Path:
        """The private folder of one run's script."""


class Archives(Protocol):
    """The uploaded archives; see ``artifacts.Area``."""

    def local(self, name: str) -> AbstractContextManager[Path]: ...


def stage(request: RunRequest, data: Places, uploads: Archives, *, forks: bool = False) -> Command:
    """Put the job's files in place. An archive may take long. Only this run's own files are touched.

    Args:
        forks: whether the loaded launcher is equivalent to the one that the job's script would find.

    Raises:
        StagingFailed: the job can never run.
        NoRoom: it can run once there is room. No file of it is left.
    """
    line = request.line
    try:
        if line.header in ARCHIVES:
            return _stage_archive(request, data, uploads)
        if line.header in {RUN_PAYLOAD, DEPLOY_PAYLOAD}:
            return _stage_script(request, data, forks=forks)
    except OSError as exc:
        kind = NoRoom if exc.errno in PASSING else StagingFailed
        raise kind(f"its files could not be put in place: {exc}") from exc
    raise StagingFailed(f"{line.header!r} is no kind of job; use RUN_PAYLOAD, DEPLOY_PAYLOAD or an archive")


def _stage_script(request: RunRequest, data: Places, *, forks: bool) -> Command:
    line = request.line
    service = line.header in SERVICES
    try:
        content = decode_base64(line.content_b64.strip())
    except PeerProtocolError as exc:
        raise StagingFailed(f"its script is not valid base64: {exc}") from exc
    workspace = data.workspace(request.worker)
    cwd = os.fspath(workspace)
    if not service:
        cwd += "/shared" if line.job_id.startswith(DAG_PREFIX) else f"/{safe_name(line.job_id)}"
    if not os.path.isdir(cwd):
        Path(cwd).mkdir(mode=0o700, parents=True, exist_ok=True)
    grace, rest = grace_of(b"" if service else content)
    spec = spec_for(content, runtime_bundle()) if forks and not service else None
    if spec is not None:
        return Command((), cwd, grace, 0.0, spec)
    name = os.path.basename(line.filename.strip())
    staging = os.fspath(data.staging(request.worker, request.run))
    if service or is_launcher(content) or not line.job_id.startswith(DAG_PREFIX):
        script = _put(staging, name, content)
    else:
        script = _put_beside(staging, workspace, request.run, name, content)
    # A service gets no arguments: DEPLOY_PAYLOAD has no field for them.
    args = [] if service else split_args(line.args)
    argv = _service_command(script) if service else (*_interpreter(script), *args)
    return Command(argv, cwd, grace, rest)


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
    return Command(argv, str(script.parent), *grace_of(b""))


def _service_command(script: str) -> tuple[str, ...]:
    """The command of a service by its first line: a service has no runtime that would read that line."""
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
