"""The environments of this worker: one per set of packages, built once, shared by its jobs, and removed when unused.

The worker's private folder has, for each environment:

- ``<digest>``: a link to the environment's folder. It appears when the folder is complete. The folder is not renamed,
  because a venv contains its own path;
- ``<digest>-<random>/``: the environment, or the remains of a killed builder;
- ``<digest>.use``: a file with a shared lock of every process that uses or awaits the environment. Its modification time
  is the last use;
- ``<digest>.build``: a file that the builder locks.

The kernel releases a lock when all its holders have ended, in whatever way. A job's process inherits its lock.
"""

from __future__ import annotations

import binascii
import os
import sys
import time

from . import limits
from .c_modules import dumps, sha256

fcntl = __import__("fcntl")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

    from . import store


LAYOUT = "1"
"""The version of the layout. It is part of every digest."""
FAILED = 96
"""The exit code of a job whose environment could not be built."""
FACTS = "titan-environment.json"
_DIGITS = 32
_BUILDER = (
    b"import sys; '' in sys.path and sys.path.remove(''); sys.path.insert(0, sys.argv[1]); "
    b"from titan_runtime.environment_build import main; main(sys.argv[2:])"
)


class Entry:
    """A complete environment."""

    def __init__(self, digest: str, path: str, used_at: float, facts: Dict[str, Any]) -> None:
        self.digest, self.path, self.used_at = digest, path, used_at
        self.facts = facts
        """The builder's notes: ``requirements``, ``python``, ``bytes``, ``built_at``, ``seconds``, ``installer``."""


class Unusable(Exception):
    """This worker has no folder for environments; the sentence says why."""


def root(make: bool = True) -> str:
    """The folder of all environments. No other user may write to it, because code in it is run.

    Raises:
        Unusable: there is no such folder.
    """
    named = os.environ.get("TITAN_RUNTIME_ENVIRONMENTS")
    places: List[Optional[str]] = [named]
    if not named:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        temporary = os.environ.get("TMPDIR") or "/tmp"
        caches = os.environ.get("TITAN_RUNTIME_CACHE"), home + "/titan-runtime"
        places = [cache + "/environments" for cache in caches if cache]
        places.append("%s/titan-runtime-%d/environments" % (temporary, os.getuid()))
    for place in filter(None, places):
        try:
            if make:
                os.makedirs(os.path.dirname(os.path.abspath(place)), 0o700, True)
                if not os.path.isdir(place):
                    os.mkdir(place, 0o700)
            found = os.stat(place)
            if found.st_uid == os.getuid() and not found.st_mode & 0o022 and os.access(place, 7):
                return os.path.abspath(place)
        except OSError:
            pass
    raise Unusable(
        "no private folder for environments%s; set TITAN_RUNTIME_ENVIRONMENTS on the worker to a folder that only "
        "its user can write to" % (" (tried %s)" % named if named else "")
    )


def digest(requirements: str, inherited: Optional[List[str]] = None) -> str:
    """The name of the environment for this Python and these requirements.

    Args:
        requirements: the SHA-256 of the requirements.
        inherited: folders of the worker's own packages, if the environment sees them.
    """
    words = [LAYOUT, requirements, sys.version, sys.platform, os.uname().machine]
    words.append(os.path.realpath(sys.executable))
    try:
        words.append(os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (AttributeError, ValueError, OSError):
        pass  # not glibc; another libc comes with another Python, which is part of the name
    for folder in inherited or []:
        # The environment completes the worker's packages, so their versions are part of its name.
        words.append(folder)
        words.extend(name for name in _listed(folder) if name.endswith((".dist-info", ".egg-info")))
    if inherited is not None:
        words.append("inherits")
    return str(sha256("\n".join(words).encode("utf-8", "surrogateescape")).hexdigest())[:_DIGITS]


def _listed(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


# -- locks ------------------------------------------------------------------------------------------------------


def lock(path: str, how: int) -> int:
    """Open and lock a file. With LOCK_NB, raises BlockingIOError if another process has the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, how)
            mine = os.fstat(descriptor)
            try:
                there = os.stat(path)
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # The file was removed with its environment before this process got the lock.
        os.close(descriptor)


def published(place: str, name: str) -> Optional[str]:
    """The folder of the environment of that digest, if it is complete."""
    try:
        path = place + "/" + os.readlink(place + "/" + name)
    except OSError:
        return None
    return path if os.path.exists(path + "/bin/python") else None


def hold(place: str, name: str) -> Tuple[int, Optional[str]]:
    """Take a shared lock, which protects the environment from removal. Returns it, and the folder if it is complete."""
    descriptor = lock("%s/%s.use" % (place, name), fcntl.LOCK_SH)
    path = published(place, name)
    if path is not None:
        os.utime(descriptor)
    return descriptor, path


# -- a job's ----------------------------------------------------------------------------------------------------


class Packages:
    """The launcher's part of a job's packages."""

    def __init__(self, spec: Dict[str, Any], folder: str, command: List[bytes], library: str) -> None:
        self._wanted = spec["packages"]
        self._folder, self._library = folder, library
        self._timeout: Optional[float] = spec["timeout"]
        self._is_python = is_python(command)
        self._python = command[0] if self._is_python else os.fsencode(sys.executable)
        self._held: Optional[int] = None
        self._path: Optional[str] = None

    @property
    def inherits(self) -> bool:
        return bool(self._wanted.get("inherit"))

    def prepare(self, master: store.StoreConnection, until: Callable[[], float]) -> None:
        """Lock the environment if it is found here. Otherwise write the requirements for the builder.

        Raises:
            StoreError: the requirements cannot be fetched.
            OSError: the worker's disk.
        """
        own = self._python == os.fsencode(sys.executable)
        if own and not self.inherits and self._take(digest(self._wanted["sha256"])):
            self._tell("reused", 0.0)
            return
        data = self._wanted.get("data")
        if data is not None:
            import zlib

            content = zlib.decompress(binascii.a2b_base64(data))
        else:
            from . import store

            wanted = self._wanted
            content = store.persist(lambda: master.asset(wanted["asset"], wanted["sha256"]), until)
        with open(self._folder + "/packages.json", "wb") as file:
            file.write(content)

    def steps(self, argv: List[bytes], env: Dict[bytes, bytes], own: Dict[bytes, bytes]) -> Iterator[Any]:
        """The programs to run, in order: the builder until the environment is there, then the job.

        Args:
            env: the job's environment variables; `own` are the worker's.
        """
        told = b""
        if self._held is not None:
            told = b"titan-runtime: its environment %s is reused\n" % self._name
        for _ in range(3):
            if self._path is not None:
                break
            yield self._builder(), own, limits.BUILD_PATIENCE, b"", False
            self._take(str((read(self._folder) or {}).get("digest")))
        if self._path is None:
            raise OSError("its environment was removed at once, three times; make more room for environments")
        yield self._argv(argv), self._env(env), self._timeout, told, True

    def let_go(self) -> None:
        """Release the environment after the job's end."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    @property
    def _name(self) -> bytes:
        return os.fsencode(os.path.basename(self._path or ""))[:8]

    def _take(self, name: str) -> bool:
        try:
            place = root(make=False)
            held, path = hold(place, name)
        except (Unusable, OSError):
            return False  # the builder reports the reason
        if path is None:
            os.close(held)
            return False
        os.set_inheritable(held, True)
        self._held, self._path = held, path
        return True

    def _builder(self) -> List[bytes]:
        flags = [] if self.inherits else [b"-I"]
        words = [self._library, self._folder, self._wanted["sha256"], "inherit" if self.inherits else ""]
        return [self._python] + flags + [b"-c", _BUILDER] + [os.fsencode(word) for word in words]

    def _argv(self, argv: List[bytes]) -> List[bytes]:
        return [os.fsencode(self._path or "") + b"/bin/python"] + argv[1:] if self._is_python else argv

    def _env(self, env: Dict[bytes, bytes]) -> Dict[bytes, bytes]:
        path = os.fsencode(self._path or "")
        env = dict(env)
        env.pop(b"PYTHONHOME", None)
        env[b"VIRTUAL_ENV"] = path
        env[b"PATH"] = path + b"/bin:" + (env.get(b"PATH") or os.fsencode(os.defpath))
        if self.inherits and b"PYTHONPATH" in os.environb:
            # The job's packages go before all packages of the worker.
            env[b"PYTHONPATH"] = os.fsencode(site_packages(self._path or "")) + b":" + env[b"PYTHONPATH"]
        return env

    def _tell(self, how: str, seconds: float) -> None:
        tell(self._folder, how, seconds, "its environment is reused")


def is_python(command: List[bytes]) -> bool:
    """Whether the command's program is a Python. The environment's Python then takes its place."""
    return len(command) > 1 and os.path.basename(command[0]).lstrip(b".").startswith((b"python", b"pypy"))


def site_packages(path: str) -> str:
    """The folder of an environment's packages."""
    names = [name for name in _listed(path + "/lib") if name.startswith(("python", "pypy"))]
    return "%s/lib/%s/site-packages" % (path, names[0] if names else "")


def tell(folder: str, how: str, seconds: float, text: str, **facts: Any) -> None:
    """Write the environment's state for the launcher, and the progress for the job's readers."""
    told = dict(facts, state=how, seconds=round(seconds, 3))
    for name, value in (("environment", told), ("progress", {"fraction": None, "text": text})):
        with open("%s/%s.part" % (folder, name), "w") as file:
            file.write(dumps(value))
        os.replace("%s/%s.part" % (folder, name), "%s/%s.json" % (folder, name))


def read(folder: str) -> Optional[Dict[str, Any]]:
    """The state that ``tell`` wrote."""
    import json

    try:
        with open(folder + "/environment.json") as file:
            return dict(json.load(file))
    except (OSError, ValueError):
        return None


# -- all of them ------------------------------------------------------------------------------------------------


def entries(place: str) -> List[Entry]:
    """The complete environments, the least recently used first."""
    import json

    found = []
    for name in _digests(place):
        path = published(place, name)
        if path is None:
            continue
        try:
            with open("%s/%s" % (path, FACTS)) as file:
                facts = dict(json.load(file))
            found.append(Entry(name, path, os.stat("%s/%s.use" % (place, name)).st_mtime, facts))
        except (OSError, ValueError):
            found.append(Entry(name, path, 0.0, {}))
    return sorted(found, key=lambda entry: entry.used_at)


def prune(place: str, size: float, age: float) -> List[Entry]:
    """Remove environments that were not used for `age` seconds, then the least recently used until the rest has at most
    `size` bytes, and the remains of killed builders. Environments in use stay. Returns the removed ones.
    """
    found = entries(place)
    known = {entry.digest for entry in found}
    for name in _digests(place):
        if name not in known:
            remove(place, name)
    total = sum(entry.facts.get("bytes", 0) for entry in found)
    removed = []
    for entry in found:
        is_old = time.time() - entry.used_at > age
        if (is_old or total > size) and remove(place, entry.digest):
            total -= entry.facts.get("bytes", 0)
            removed.append(entry)
    return removed


def remove(place: str, name: str) -> bool:
    """Remove the environment of that digest, complete or not. False: it is in use or being built."""
    use = "%s/%s.use" % (place, name)
    try:
        held = lock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    trash = []
    try:
        # A process that waits for the lock then finds no environment, and builds one in a folder of another name.
        for path in ("%s/%s" % (place, name), "%s/%s.build" % (place, name)):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
        for left in _listed(place):
            if left.startswith(name + "-"):
                trash.append("%s/.%s" % (place, left))
                os.rename("%s/%s" % (place, left), trash[-1])
        os.unlink(use)
    finally:
        os.close(held)
    for folder in trash + ["%s/%s" % (place, left) for left in _listed(place) if left.startswith("." + name)]:
        clear(folder)
    return True


def clear(folder: str) -> None:
    """Delete a folder. The folders in it may be read-only."""
    import shutil

    for path, _, _ in os.walk(folder):
        try:
            os.chmod(path, 0o700)
        except OSError:
            pass
    shutil.rmtree(folder, True)


def is_used(place: str, name: str) -> bool:
    """Whether a job uses the environment, or a builder builds it."""
    try:
        os.close(lock("%s/%s.use" % (place, name), fcntl.LOCK_EX | fcntl.LOCK_NB))
    except OSError:
        return True
    return False


def _digests(place: str) -> List[str]:
    stems = {name.lstrip(".").partition(".")[0].partition("-")[0] for name in _listed(place)}
    return sorted(stem for stem in stems if len(stem) == _DIGITS and not stem.strip("0123456789abcdef"))
