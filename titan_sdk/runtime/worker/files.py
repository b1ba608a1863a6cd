"""A job's files: inputs are put in place before the code starts, and outputs become artifacts after its success.

A private folder of the worker keeps fetched files by content, for later jobs. A job gets a verified copy, because it may
write to its files.
"""

from __future__ import annotations

import binascii
import os
import time

from . import artifacts, folders, keys, limits, store
from .c_modules import dumps, partial, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Optional

    from .jobdir import JobDir

    Alive = Callable[[], None]

_KEY = "titan://"
_MARK = "~t1~"
"""The beginning of a value in TitanStore that is encoded as JSON text."""
_SHOWN = 10
"""Number of file names that an error message lists."""


class Trouble(Exception):
    """An input cannot be fetched, or an output is missing; the sentence names it."""


def base(place: JobDir) -> str:
    """The base of relative paths: the folder in which the job runs."""
    return os.getcwd() if place.cwd is None else os.fsdecode(place.cwd)


# ---------------------------------------------------------------------- inputs


def put_inputs(
    master: store.StoreConnection,
    spec: Dict[str, Any],
    place: JobDir,
    deadline: artifacts.Deadline,
    alive: Alive,
) -> None:
    """Put every input in place.

    Raises:
        Trouble: an input cannot be fetched.
        StoreError: the master cannot be reached.
    """
    for wanted in spec["inputs"]:
        path = wanted["to"]
        try:
            target = os.path.join(base(place), path)
            refs = _refs(master, wanted, deadline)
            _check_names(refs)
            for ref in refs:
                _put(master, ref, path, target, place, deadline, alive)
        except (artifacts.Gone, ValueError, OSError) as exc:
            raise Trouble("its input %r cannot be put in place: %s" % (path, exc)) from None
        except store.StoreError as exc:
            raise store.StoreError("its input %r cannot be put in place: %s" % (path, exc)) from None


def _put(
    master: store.StoreConnection,
    ref: Dict[str, Any],
    path: str,
    target: str,
    place: JobDir,
    deadline: artifacts.Deadline,
    alive: Alive,
) -> None:
    if not path.endswith("/"):
        os.makedirs(os.path.dirname(target) or ".", 0o777, True)
        _bring(master, ref, target, deadline, alive)
    elif ref.get("one"):
        # One of several files. Each keeps its name.
        os.makedirs(target, 0o777, True)
        _bring(master, ref, os.path.join(target, _base_name(ref)), deadline, alive)
    else:
        packed = place.path("input.zip")
        _bring(master, ref, packed, deadline, alive)
        os.makedirs(target, 0o777, True)
        found = os.statvfs(target)
        folders.unpack(packed, target, found.f_bavail * found.f_frsize)
        os.unlink(packed)


def _base_name(ref: Dict[str, Any]) -> str:
    return str(os.path.basename(ref.get("path") or ref["name"]))


def _check_names(refs: List[Dict[str, Any]]) -> None:
    """Of several files each keeps its base name, so one would take the place of another."""
    seen: Dict[str, Dict[str, Any]] = {}
    for ref in refs:
        if ref.get("one"):
            other = seen.setdefault(_base_name(ref), ref)
            if other["sha256"] != ref["sha256"]:
                paths = tuple(each.get("path") or each["name"] for each in (other, ref))
                raise ValueError("%r and %r have the same base name; publish their folder instead" % paths)


def _refs(
    master: store.StoreConnection, wanted: Dict[str, Any], deadline: artifacts.Deadline
) -> List[Dict[str, Any]]:
    """The artifacts of an input. They were named at the submit, or are found now."""
    if "files" in wanted:
        return [dict(ref, one=True) for ref in wanted["files"]]
    if "job" in wanted:
        found = _output_of(master, wanted, deadline)
        return [dict(ref, one=True) for ref in found] if isinstance(found, list) else [found]
    if "uri" in wanted:
        return [_published(master, wanted["uri"], deadline)]
    return [wanted]


def _output_of(master: store.StoreConnection, wanted: Dict[str, Any], deadline: artifacts.Deadline) -> Any:
    key = keys.state_key(wanted["job"], wanted["nonce"])
    text = store.persist(partial(master.get, key), deadline())
    import json

    outputs = (json.loads(text).get("outputs") if text else None) or {}
    if wanted["output"] not in outputs:
        raise ValueError(
            "job %s has left no output %r; it has %s"
            % (wanted["job"], wanted["output"], ", ".join(sorted(outputs)) or "none")
        )
    return outputs[wanted["output"]]


def _published(master: store.StoreConnection, uri: str, deadline: artifacts.Deadline) -> Dict[str, Any]:
    """The artifact that a key of TitanStore names now."""
    text = store.persist(partial(master.call, store.KV_GET, uri.encode("ascii")), deadline())
    name = text.decode("utf-8", "replace")
    if name.startswith(_MARK):
        import json

        name = json.loads(name[len(_MARK) :])
    if name in ("NULL", "", "CLEARED"):
        raise ValueError("nothing is published as %s%s" % (_KEY, uri))
    if name.startswith("{"):
        import json

        ref = dict(json.loads(name))
        if not (isinstance(ref.get("name"), str) and type(ref.get("size")) is int and "sha256" in ref):
            raise ValueError("what %s%s stands for is no reference of a file: %.200s" % (_KEY, uri, name))
        return ref
    return _as_it_is(master, name, deadline)


def stored_key(key: str) -> str:
    """The stored form of a key, equal to the one of ``titan_sdk.wire.fields.encode_key``."""
    if not key.isascii() or "|" in key or key != key.strip() or key.startswith(_MARK):
        return _MARK + dumps(key).replace("|", "\\u007c")
    return key


def _as_it_is(master: store.StoreConnection, name: str, deadline: artifacts.Deadline) -> Dict[str, Any]:
    if master.trusted:
        return store.persist(partial(artifacts.look, master, name), deadline())
    data = store.persist(partial(master.upload, name), deadline())
    return {"name": name, "size": len(data), "sha256": sha256(data).hexdigest()}


def _bring(
    master: store.StoreConnection,
    ref: Dict[str, Any],
    target: str,
    deadline: artifacts.Deadline,
    alive: Alive,
) -> None:
    """A copy of the file, whole or not at all."""
    # The target's name may be as long as a name can be.
    part = os.path.join(os.path.dirname(target), ".%s.part" % binascii.hexlify(os.urandom(8)).decode())
    try:
        kept = _kept(master, ref, deadline, alive)
        if kept is None or not _copy(kept, part, ref["sha256"], alive):
            if kept is not None:
                _unlink(kept)
            _unlink(part)
            artifacts.receive(master, ref, part, deadline, alive)
        os.replace(part, target)
    finally:
        _unlink(part)


def _copy(source: str, target: str, digest: str, alive: Alive) -> bool:
    """Copy the file. Returns whether the copy has the right content."""
    found = sha256()
    try:
        with open(source, "rb") as read, open(target, "wb") as written:
            os.utime(source)
            while True:
                piece = read.read(limits.PIECE)
                if not piece:
                    return bool(found.hexdigest() == digest)
                found.update(piece)
                written.write(piece)
                alive()
    except FileNotFoundError:
        return False  # another job removed it to make room


# ---------------------------------------------------------------------- what was fetched before


def cache() -> Optional[str]:
    """The worker's private folder of fetched files; None if there is no usable folder."""
    if not limits.FILES_LIMIT:
        return None
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    temporary = os.environ.get("TMPDIR") or "/tmp"
    named = os.environ.get("TITAN_RUNTIME_CACHE")
    for place in (named, home + "/titan-runtime", "%s/titan-runtime-%d" % (temporary, os.getuid())):
        try:
            if place:
                folder = place + "/files"
                os.makedirs(folder, 0o700, True)
                found = os.lstat(folder)
                if found.st_uid == os.getuid() and found.st_mode & 0o170077 == 0o040000:
                    return folder
        except OSError:
            pass
    return None


def _kept(
    master: store.StoreConnection, ref: Dict[str, Any], deadline: artifacts.Deadline, alive: Alive
) -> Optional[str]:
    """The path of the worker's copy of the file, which is fetched if it is missing. None: the worker keeps no copy."""
    folder = cache()
    if folder is None or not 0 < ref["size"] <= limits.FILES_LIMIT // 2:
        return None
    path = "%s/%s" % (folder, ref["sha256"])
    try:
        for _ in _alone(path, alive):
            if os.path.exists(path):
                return path
            part = "%s.%d.part" % (path, os.getpid())
            try:
                _make_room(folder, ref["size"])
                artifacts.receive(master, ref, part, deadline, alive)
                os.replace(part, path)
            finally:
                _unlink(part)
    except OSError:
        return None  # such as a full disk; the job's folder may be on another one
    return path


def _alone(path: str, alive: Alive) -> Iterator[None]:
    """Yield once, while this process has the lock of this path among the worker's jobs."""
    fcntl = __import__("fcntl")
    descriptor = os.open(path + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                alive()
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _make_room(folder: str, size: int) -> None:
    """Remove the least recently used files until there is room for ``size`` more bytes."""
    found = []
    for name in os.listdir(folder):
        try:
            stat = os.stat(os.path.join(folder, name))
        except OSError:
            continue
        found.append((stat.st_mtime, stat.st_size, name))
    total = sum(entry[1] for entry in found) + size
    for used_at, length, name in sorted(found):
        if name.endswith((".lock", ".part")):
            # An old part is the remains of a killed job.
            if time.time() - used_at > limits.LEFT_PART:
                _unlink(os.path.join(folder, name))
        elif total > limits.FILES_LIMIT:
            _unlink(os.path.join(folder, name))
            total -= length


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


# ---------------------------------------------------------------------- outputs


def publish_outputs(
    master: store.StoreConnection,
    spec: Dict[str, Any],
    place: JobDir,
    deadline: artifacts.Deadline,
    alive: Alive,
) -> Dict[str, Any]:
    """Make artifacts of the job's outputs. Returns their references, by name.

    Raises:
        Trouble: an output is missing.
        StoreError: the master does not take an output.
    """
    found = [
        (name, pattern, _matches(name, pattern, base(place))) for name, pattern in spec["outputs"].items()
    ]
    count = sum(len(paths) for _, _, paths in found)
    if count > limits.OUTPUT_FILES:
        raise Trouble(
            "its outputs are %d files; the limit is %d, so publish the folder (a path that ends with '/')"
            % (count, limits.OUTPUT_FILES)
        )
    published: Dict[str, Any] = {}
    for name, pattern, paths in found:
        refs = [
            publish(
                master,
                spec,
                "%s~%d" % (name, number) if is_pattern(pattern) else name,
                path,
                place.path("output.zip"),
                deadline,
                alive,
            )
            for number, path in enumerate(paths)
        ]
        for ref, path in zip(refs, paths):
            ref["path"] = os.path.relpath(path, base(place))
        published[name] = refs if is_pattern(pattern) else refs[0]
    return published


def publish(
    master: store.StoreConnection,
    run: Dict[str, Any],
    label: str,
    path: str,
    scratch: str,
    deadline: artifacts.Deadline,
    alive: Alive,
) -> Dict[str, Any]:
    """Publish one file, or a folder as a zip, under a name that belongs to the run."""
    own = artifacts.plain(os.path.basename(os.path.normpath(path)))
    name = artifacts.name_of(run["id"], run["nonce"], "%s~%s" % (label, own))
    if not os.path.isdir(path):
        return artifacts.send(master, name, path, deadline, alive)
    try:
        folders.pack(path, scratch)
        return dict(artifacts.send(master, name + ".zip", scratch, deadline, alive), folder=True)
    except ValueError as exc:
        raise Trouble("its output %s cannot be published: %s" % (path, exc)) from None
    finally:
        _unlink(scratch)


def is_pattern(path: str) -> bool:
    """Whether a path is a pattern for several files."""
    return any(c in path for c in "*?[")


def _matches(name: str, pattern: str, folder: str) -> List[str]:
    path = os.path.join(folder, pattern)
    if not is_pattern(pattern):
        if os.path.isfile(path) or os.path.isdir(path):
            return [path]
        raise Trouble("its output %r is missing: there is no %r in %s" % (name, pattern, shown(path)))
    import glob

    found = sorted(match for match in glob.glob(path, recursive=True) if os.path.isfile(match))
    if not found:
        raise Trouble("its output %r is missing: nothing matches %r in %s" % (name, pattern, shown(path)))
    return found


def shown(path: str) -> str:
    """The nearest existing folder above a path, and its content, for an error message."""
    folder = os.path.dirname(path.rstrip("/"))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        names = sorted(os.listdir(folder))
    except OSError as exc:
        return "%s, which cannot be read (%s)" % (folder, exc.strerror)
    listed = [name + "/" if os.path.isdir(os.path.join(folder, name)) else name for name in names[:_SHOWN]]
    more = " and %d more" % (len(names) - _SHOWN) if len(names) > _SHOWN else ""
    return "%s, which holds %s%s" % (folder, ", ".join(listed) or "nothing", more)


def read_published(place: JobDir) -> Dict[str, Any]:
    """The files that the job has published by ``titan_job.publish``."""
    folder = place.path("published")
    found: Dict[str, Any] = {}
    if not os.path.isdir(folder):
        return found
    import json

    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            with open(os.path.join(folder, name), encoding="ascii") as file:
                told = json.load(file)
            found[told["as"]] = told["ref"]
    return found
