"""The private folder of one attempt: script, params, and what user code and runtime tell each other.

It is ``titan-job-<nonce>-<random>`` below TMPDIR or /tmp, 0700, TITAN_JOB_DIR to the job, and holds

- ``script/<own base name>``: alone there, as it is sys.path[0], where a neighbour could shadow a module;
- ``project/``: an archive job's zip, unpacked, instead; the job runs in the folder of its entry, as in Titan;
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


class JobDir:
    """Paths of one attempt's folder."""

    def __init__(self, root: str, script_name: str) -> None:
        self.root = root
        self.cwd: Optional[bytes] = None
        """Where the job runs; None is the worker's own folder."""
        self.command: List[bytes] = []
        """What runs the script, before its arguments."""
        self.script = os.fsencode(root) + b"/script/" + script_name.encode("utf-8", "surrogateescape")

    def path(self, name: str) -> str:
        return self.root + "/" + name


def prepare(master: store.Master, spec: Dict[str, Any], until: Callable[[], float]) -> JobDir:
    """Make the folder and put script and params in it.

    Raises:
        StoreError: a large script or a project could not be fetched from the master.
        OSError: the worker's disk.
        ValueError: the project's zip cannot be unpacked or lacks the entry, or the worker what runs the script.
    """
    script = spec["script"]
    source = _source(master, script, until)
    root = "%s/%s%s" % (_temporary(), _prefix(spec["nonce"]), binascii.hexlify(os.urandom(4)).decode())
    os.mkdir(root, 0o700)
    try:
        place = JobDir(root, script["name"])
        if "archive" in script:
            _unpack(place, script, source)
        else:
            os.mkdir(root + "/script", 0o700)
            mode = 0o700 if script["kind"] == "executable" else 0o600
            _write(place.script, source, mode)
        path = spec["env"].get("PATH") or os.environ.get("PATH") or os.defpath
        place.command = interpreter.command(place.script, script["kind"], path, bool(spec["python"]))
        _write(place.path("params.json"), spec["params"].encode("ascii"), 0o600)
    except BaseException:
        remove(root)
        raise
    return place


def _temporary() -> str:
    return (os.environ.get("TMPDIR") or "/tmp").rstrip("/") or "/"


def _prefix(nonce: str) -> str:
    return "titan-job-%s-" % nonce


def _source(master: store.Master, script: Dict[str, Any], until: Callable[[], float]) -> bytes:
    if "archive" in script and "asset" not in script:
        # A parent was to upload it, so nobody could name its content.
        return project.fetch(master, script["archive"], until)
    packed = script.get("data")
    if packed is not None:
        return zlib.decompress(binascii.a2b_base64(packed))
    return store.persist(lambda: master.asset(script["asset"], script["sha256"]), until)


def _unpack(place: JobDir, script: Dict[str, Any], data: bytes) -> None:
    folder = os.fsencode(place.root) + b"/project"
    project.unpack(data, folder, script["archive"])
    place.script = folder + b"/" + script["entry"].encode("utf-8", "surrogateescape")
    place.cwd = os.path.dirname(place.script)
    if not os.path.isfile(place.script):
        raise ValueError("the archive %r has no file %r" % (script["archive"], script["entry"]))
    if script["kind"] == "executable":
        os.chmod(place.script, 0o700)


def _write(path: Any, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
    # The umask may have taken the executable bit.
    os.chmod(path, mode)


def remove(root: str) -> None:
    """Delete the folder and all that the job left in it; what cannot be deleted stays."""
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
        # A process on its way out may have created another file.
        time.sleep(limits.FLUSH_EVERY / 10)


def remove_left(nonce: str) -> None:
    """Delete what a launcher of this submission has left that was killed."""
    for name in os.listdir(_temporary()):
        if name.startswith(_prefix(nonce)):
            remove("%s/%s" % (_temporary(), name))


def _delete(how: Callable[[str], None], path: str) -> None:
    try:
        how(path)
    except OSError:
        pass
