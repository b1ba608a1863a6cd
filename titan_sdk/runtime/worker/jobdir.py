"""The private folder of one attempt: script, params, and the files by which user code and runtime communicate.

Its path is ``titan-job-<nonce>-<random>`` below TMPDIR or /tmp, its mode 0700. The job finds it in TITAN_JOB_DIR. It has

- ``script/<base name>``: the script, alone in its folder, because the folder is sys.path[0] and another file in it could
  hide a module;
- ``files/``: the current folder of a job with inputs or outputs but no project;
- ``project/``: of an archive job, in place of ``script/``, the unpacked zip. The job runs in the folder of its entry, as
  in Titan;
- ``project/``: of a job with a project, the unpacked folder. The job runs in its root, unless ``cwd`` is ``worker``;
- ``params.json``: written before the start;
- ``result.json``, ``progress.json``, ``exception.json``: written by titan_job and the Python runner.
"""

from __future__ import annotations

import binascii
import os
import time
import zlib

from . import interpreter, limits, project, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

    from . import environments

PROJECT_DIR = b"TITAN_PROJECT_DIR"
"""The variable with the project's root, for the job and the runner."""


class JobDir:
    """Paths of one attempt's folder."""

    def __init__(self, root: str, script_name: str) -> None:
        self.root = root
        self.cwd: Optional[bytes] = None
        """The job's current folder; None: the worker's own."""
        self.command: List[bytes] = []
        """The command of the script, without its arguments."""
        self.project: Optional[bytes] = None
        """The root of the project."""
        self.packages: Optional[environments.Packages] = None
        self.script = os.fsencode(root) + b"/script/" + script_name.encode("utf-8", "surrogateescape")

    def path(self, name: str) -> str:
        return self.root + "/" + name

    def remove(self) -> None:
        """Delete the folder after the attempt."""
        if self.packages is not None:
            self.packages.let_go()
        remove(self.root)


def prepare(
    master: store.StoreConnection,
    spec: Dict[str, Any],
    deadline: Callable[[], Callable[[], float]],
    library: str = "",
) -> JobDir:
    """Make the folder and put script, project and params in it.

    Args:
        deadline: returns a new deadline for each request to the master.
        library: the folder or zip of the runtime's modules.

    Raises:
        StoreError: a large script, a project or the job's requirements could not be fetched from the master.
        OSError: the worker's disk.
        ValueError: the project's zip cannot be unpacked, or has no such entry, or the worker has no program for the
            script.
    """
    script = spec["script"]
    source = _source(master, script, deadline())
    root = "%s/%s%s" % (_temporary(), _prefix(spec["nonce"]), binascii.hexlify(os.urandom(4)).decode())
    os.mkdir(root, 0o700)
    try:
        place = JobDir(root, script["name"])
        if spec["project"]:
            place.project = _project(master, place, spec["project"], deadline)
            if spec["cwd"] == "project":
                place.cwd = place.project
        if source is None:
            if "entry" in script:
                _enter(place, script, spec["project"]["asset"])
        elif "archive" in script:
            _unpack(place, script, source)
        else:
            os.mkdir(root + "/script", 0o700)
            mode = 0o700 if script["kind"] == "executable" else 0o600
            _write(place.script, source, mode)
        if script["kind"] == "module":
            place.command = interpreter.module_command(script["name"].encode("utf-8"))
        else:
            path = spec["env"].get("PATH") or os.environ.get("PATH") or os.defpath
            place.command = interpreter.command(place.script, script["kind"], path, bool(spec["python"]))
        _write(place.path("params.json"), spec["params"].encode("ascii"), 0o600)
        if place.cwd is None and (spec["inputs"] or spec["outputs"]) and spec["cwd"] != "worker":
            # The worker's own folder is shared with other jobs.
            place.cwd = os.fsencode(root) + b"/files"
            os.mkdir(place.cwd, 0o700)
        if spec["packages"]:
            from . import environments

            place.packages = environments.Packages(spec, root, place.command, library)
            place.packages.prepare(master, deadline())
    except BaseException:
        remove(root)
        raise
    return place


def _temporary() -> str:
    return (os.environ.get("TMPDIR") or "/tmp").rstrip("/") or "/"


def _prefix(nonce: str) -> str:
    return "titan-job-%s-" % nonce


def _source(
    master: store.StoreConnection, script: Dict[str, Any], until: Callable[[], float]
) -> Optional[bytes]:
    """The bytes of the script or of its archive; None if the script is in the project or on the worker."""
    if "archive" in script and "asset" not in script:
        # A parent uploads the archive, so its checksum was unknown at the submit.
        return project.fetch(master, script["archive"], until)
    packed = script.get("data")
    if packed is not None:
        return zlib.decompress(binascii.a2b_base64(packed))
    if "asset" not in script:
        return None
    return store.persist(lambda: master.asset(script["asset"], script["sha256"]), until)


def _project(
    master: store.StoreConnection,
    place: JobDir,
    packed: Dict[str, Any],
    deadline: Callable[[], Callable[[], float]],
) -> bytes:
    path = place.path("project.zip")
    project.fetch_parts(master, packed, path, deadline)
    folder = os.fsencode(place.root) + b"/project"
    project.unpack(path, folder, packed["asset"])
    os.unlink(path)
    return folder


def _unpack(place: JobDir, script: Dict[str, Any], data: bytes) -> None:
    import io

    folder = os.fsencode(place.root) + b"/project"
    project.unpack(io.BytesIO(data), folder, script["archive"])
    _enter(place, script, script["archive"])
    place.cwd = os.path.dirname(place.script)


def _enter(place: JobDir, script: Dict[str, Any], archive: str) -> None:
    """Make the script the entry of the unpacked archive."""
    place.script = os.fsencode(place.root) + b"/project/" + script["entry"].encode("utf-8", "surrogateescape")
    if not os.path.isfile(place.script):
        raise ValueError("the archive %r has no file %r" % (archive, script["entry"]))
    if script["kind"] == "executable":
        os.chmod(place.script, 0o700)


def _write(path: Any, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
    # The umask may have removed the executable bit.
    os.chmod(path, mode)


def remove(root: str) -> None:
    """Delete the folder and its content. Files that cannot be deleted stay."""
    for attempt in range(3):
        for folder, folders, files in os.walk(root, topdown=False):
            for name in files:
                _delete(os.unlink, os.path.join(folder, name))
            for name in folders:
                path = os.path.join(folder, name)
                _delete(os.unlink if os.path.islink(path) else os.rmdir, path)
        _delete(os.rmdir, root)
        if attempt == 2 or not os.path.exists(root):
            return
        # A process that is ending may have created another file.
        time.sleep(limits.FLUSH_EVERY / 10)


def remove_left(nonce: str) -> None:
    """Delete the folders that killed launchers of this submission have left."""
    for name in os.listdir(_temporary()):
        if name.startswith(_prefix(nonce)):
            remove("%s/%s" % (_temporary(), name))


def _delete(how: Callable[[str], None], path: str) -> None:
    try:
        how(path)
    except OSError:
        pass
