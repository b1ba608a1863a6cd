"""Builds the environment of a job, in a process of its own that runs before the job's process.

It uses the job's Python and the worker's environment variables, because one job's variables must not decide the source
of other jobs' packages. The job's guard watches the builder, so none of its processes survives a cancel.
"""

from __future__ import annotations

import binascii
import json
import os
import re
import subprocess
import sys
import time

from . import environments, limits
from .environments import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, NoReturn, Optional, Tuple

_LAST_LINES = 8
_OWN_UV = "UV_INDEX UV_DEFAULT_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_NO_INDEX UV_OFFLINE UV_CONFIG_FILE"
_OWN_PIP = "INDEX_URL EXTRA_INDEX_URL FIND_LINKS NO_INDEX TRUSTED_HOST CERT CLIENT_CERT PROXY CONSTRAINT"
_NOT_FOR_US = (
    "PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE VIRTUAL_ENV CONDA_PREFIX __PYVENV_LAUNCHER__ PIP_TARGET PIP_PREFIX "
    "PIP_ROOT PIP_PYTHON PIP_REQUIREMENT PIP_EDITABLE PIP_DRY_RUN PIP_REPORT PIP_LOG PIP_QUIET UV_PYTHON UV_SYSTEM_PYTHON "
    "UV_BREAK_SYSTEM_PACKAGES UV_PROJECT UV_PROJECT_ENVIRONMENT UV_TARGET UV_PREFIX UV_WORKING_DIRECTORY"
)
_USERINFO = re.compile(r"(://)[^/\s'\"]*@")
_SETTING = re.compile(r"(?m)^\s*(%s)\s*[=:]" % "|".join(_OWN_PIP.lower().replace("_", "[-_]").split()))


class Failure(Exception):
    """The environment cannot be built; the sentence says why."""


def main(words: List[str]) -> NoReturn:
    """Provide the environment and exit with 0, or report why there is none.

    Args:
        words: the job's folder, the requirements' SHA-256, and ``inherit`` or nothing.
    """
    folder, requirements, inherit = words
    begun = time.monotonic()
    try:
        how, digest = _Build(folder, requirements, bool(inherit)).run()
    except (Failure, environments.Unusable) as failure:
        seconds = time.monotonic() - begun
        environments.tell(folder, "failed", seconds, "its environment failed", reason=str(failure))
        sys.exit(environments.FAILED)
    except OSError as exc:
        seconds = time.monotonic() - begun
        reason = "its environment could not be built: %s" % exc
        environments.tell(folder, "failed", seconds, "its environment failed", reason=mask(reason))
        sys.exit(environments.FAILED)
    seconds = time.monotonic() - begun
    done = {"built": "was built in %.1f s", "waited": "was built by another job in %.1f s"}.get(how)
    text = "its environment %s" % (done % seconds if done else "is reused")
    environments.tell(folder, how, seconds, text, digest=digest)
    say(text.replace("environment", "environment %s" % digest[:8]))
    sys.exit(0)


def say(sentence: str) -> None:
    """Write a line to the job's log."""
    sys.stdout.write("titan-runtime: %s\n" % sentence)
    sys.stdout.flush()


def mask(text: str) -> str:
    """The text without the names, passwords and tokens before the host of a URL."""
    return _USERINFO.sub(r"\1****@", text)


class _Build:
    """Provides one environment: reuses it, waits for it, or builds it."""

    def __init__(self, folder: str, requirements: str, inherit: bool) -> None:
        self.folder, self.inherit = folder, inherit
        self.inherited = own_packages() if inherit else None
        self.digest = environments.digest(requirements, self.inherited)
        with open(folder + "/packages.json", encoding="utf-8") as file:
            self.wanted: Dict[str, Any] = json.load(file)

    def run(self) -> Tuple[str, str]:
        """Provide the environment. Returns how (``reused``, ``waited``, ``built``) and its digest."""
        self._check_python()
        place = environments.root()
        # This process holds the lock to its end, so that nobody removes the environment.
        _, path = environments.hold(place, self.digest)
        if path is not None:
            return "reused", self.digest
        build = "%s/%s.build" % (place, self.digest)
        how = "built"
        try:
            lock = environments.lock(build, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            how = "waited"
            say("its environment %s is being built by another job; waiting for it" % self.digest[:8])
            environments.tell(
                self.folder, "waiting", 0.0, "waiting for its environment, which another job builds"
            )
            lock = environments.lock(build, fcntl.LOCK_EX)
        if environments.published(place, self.digest) is None:
            how = "built"
            self._build(place)
        os.close(lock)
        return how, self.digest

    def _check_python(self) -> None:
        wanted = self.wanted.get("python")
        if wanted and not satisfies(sys.version_info[:3], wanted):
            raise Failure(
                "its requirements need Python %s, and the worker runs the job with %d.%d.%d (%s); name another one "
                "with python=" % ((wanted,) + sys.version_info[:3] + (sys.executable,))
            )

    def _build(self, place: str) -> None:
        installer = Installer(self.inherit)
        lines = self.wanted["lines"]
        say("building its environment %s with %s: %s" % (self.digest[:8], installer.name, summary(lines)))
        environments.tell(self.folder, "building", 0.0, "building its environment with %s" % installer.name)
        begun = time.monotonic()
        for left in os.listdir(place):
            if left.startswith(self.digest + "-"):
                # The remains of a killed builder. No link led to them, so no job uses them.
                environments.clear(place + "/" + left)
        name = "%s-%s" % (self.digest, binascii.hexlify(os.urandom(4)).decode())
        path = place + "/" + name
        try:
            self._make(path)
            self._install(installer, path)
            self._seal(path, installer.name, begun)
        except BaseException:
            environments.clear(path)
            raise
        os.symlink(name, path + ".link")
        os.rename(path + ".link", place + "/" + self.digest)
        environments.prune(place, limits.ENVIRONMENTS_SIZE, limits.ENVIRONMENTS_AGE)

    def _make(self, path: str) -> None:
        try:
            import venv
        except ImportError:
            raise Failure(
                "the worker's Python (%s) has no module venv, which environments need; install it there (python3-venv)"
                % sys.executable
            ) from None
        os.mkdir(path, 0o700)
        venv.EnvBuilder(symlinks=True).create(path)
        if self.inherited:
            with open(environments.site_packages(path) + "/_titan_inherited.pth", "w") as file:
                # The worker's folders go to the end of the path, and their own .pth files count.
                for folder in self.inherited:
                    file.write("import site; site.addsitedir(%r)\n" % folder)

    def _install(self, installer: Installer, path: str) -> None:
        lines, given = self.wanted["lines"], []
        if self.wanted.get("constraints"):
            given = ["-c", self._written("constraints", self.wanted["constraints"])]
        if not self.wanted.get("locked"):
            if any(line[:1] != "-" for line in lines):
                installer.install(path, given + ["-r", self._written("requirements", lines)])
            return
        # A lock file names all packages. A package from a repository has no hash that an installer could check.
        hashed = [line for line in lines if " --hash=" in line]
        for part, flags in ((hashed, ["--require-hashes"]), ([x for x in lines if x not in hashed], [])):
            if part:
                installer.install(path, given + flags + ["--no-deps", "-r", self._written("locked", part)])

    def _written(self, name: str, lines: List[str]) -> str:
        path = "%s/%s.txt" % (self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return path

    def _seal(self, path: str, installer: str, begun: float) -> None:
        size, folders = 0, []
        for folder, _, files in os.walk(path):
            folders.append(folder)
            size += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
        facts = {
            "requirements": [mask(line.partition(" --hash=")[0]) for line in self.wanted["lines"]],
            "python": "%d.%d.%d" % sys.version_info[:3],
            "executable": sys.executable,
            "inherits": self.inherit,
            "installer": installer,
            "bytes": size,
            "built_at": round(time.time(), 3),
            "seconds": round(time.monotonic() - begun, 3),
        }
        with open("%s/%s" % (path, environments.FACTS), "w", encoding="ascii") as file:
            json.dump(facts, file)
        for folder in folders:
            # Jobs share the environment, so its folders become read-only. Files do not: they may be links to the installer's cache.
            os.chmod(folder, 0o500)


def summary(lines: List[str], shown: int = 5) -> str:
    """The first few requirements, as one line."""
    names = [mask(line.partition(" --hash=")[0]) for line in lines if line[:1] != "-"]
    more = " and %d more" % (len(names) - shown) if len(names) > shown else ""
    return (", ".join(names[:shown]) or "no packages") + more


def own_packages() -> List[str]:
    """The folders of this Python's packages."""
    return [
        path
        for path in sys.path
        if os.path.basename(path) in ("site-packages", "dist-packages") and os.path.isdir(path)
    ]


def satisfies(version: Tuple[int, ...], wanted: str) -> bool:
    """Whether a Python's version is within a ``requires-python``."""
    return all(_holds(version, *_split(part)) for part in wanted.split(",") if part.strip())


def _split(part: str) -> Tuple[str, str]:
    found = re.match(r"\s*(~=|==|!=|<=|>=|<|>)\s*([\d.*]+)", part)
    if found is None:
        raise Failure("its requires-python %r cannot be read" % part)
    return found.group(1), found.group(2)


def _holds(version: Tuple[int, ...], how: str, text: str) -> bool:
    is_prefix = text.endswith(".*")
    numbers = tuple(int(number) for number in text.replace(".*", "").split(".") if number)
    padded = (numbers + (0, 0, 0))[:3]
    same = version[: len(numbers)] == numbers if is_prefix else version == padded
    return {
        "==": same,
        "!=": not same,
        ">=": version >= padded,
        "<=": version <= padded,
        ">": version > padded,
        "<": version < padded,
        "~=": version >= padded and version[: len(numbers) - 1] == numbers[:-1],
    }[how]


# -- installers -------------------------------------------------------------------------------------------------


class Installer:
    """The installer: uv if the worker has it, otherwise pip, with the worker's own settings.

    pip also installs if only pip's settings name an index, because uv does not read them. And pip installs if the
    worker's packages count, because uv ignores packages outside of the environment.
    """

    def __init__(self, inherit: bool) -> None:
        self.inherit = inherit
        self.uv = None if inherit or (pip_is_set() and not uv_is_set()) else find_uv()
        self.name = "uv" if self.uv else "pip"
        self._pip: Optional[List[str]] = None

    def install(self, path: str, what: List[str]) -> None:
        """Install into the environment. Raises Failure."""
        python = path + "/bin/python"
        if self.uv:
            words = [self.uv, "pip", "install", "--python", python, "--no-progress", "--compile-bytecode"]
        else:
            words = self._found_pip(python) + [
                "install",
                "--no-input",
                "--disable-pip-version-check",
                "--no-warn-script-location",
                "--progress-bar=off",
            ]
        code, last = self._run(words + what)
        if code:
            raise Failure(
                "its environment could not be built: %s ended with exit code %d\n%s"
                % (self.name, code, "\n".join("    " + line for line in last))
            )

    def _found_pip(self, python: str) -> List[str]:
        if self._pip is None:
            if _has_pip():
                self._pip = [sys.executable, "-m", "pip", "--python", python]
            else:
                code, last = self._run([python, "-m", "ensurepip"])
                if code:
                    raise Failure(
                        "the worker has neither uv nor a pip that its Python (%s) can use; install one of them: %s"
                        % (sys.executable, last[-1] if last else "exit code %d" % code)
                    )
                self._pip = [python, "-m", "pip"]
        return self._pip

    def _run(self, words: List[str]) -> Tuple[int, List[str]]:
        """Run the installer. Returns its exit code and last lines. Its output goes to the job's log, without secrets."""
        env = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_US.split()}
        env.update(NO_COLOR="1", PYTHONUNBUFFERED="1", PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0")
        if not self.inherit:
            env.pop("PYTHONPATH", None)
        last: List[str] = []
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd="/",
        )
        assert process.stdout is not None
        for raw in process.stdout:
            line = mask(raw.decode("utf-8", "replace")).rstrip()
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            if line:
                last = (last + [line])[-_LAST_LINES:]
        return process.wait(), last


def find_uv() -> Optional[str]:
    """The path of uv, from the PATH or beside the worker's Python."""
    import shutil

    beside = os.path.join(os.path.dirname(sys.executable), "uv")
    return shutil.which("uv") or (beside if os.access(beside, os.X_OK) else None)


def uv_is_set() -> bool:
    """Whether uv's settings name an index."""
    homes = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "/etc"
    return any(os.environ.get(name) for name in _OWN_UV.split()) or any(
        os.path.exists(home + "/uv/uv.toml") for home in homes
    )


def pip_is_set() -> bool:
    """Whether pip's settings name an index."""
    if any(os.environ.get("PIP_" + name) for name in _OWN_PIP.split()):
        return True
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or home + "/.config"
    shared = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    files = [
        os.environ.get("PIP_CONFIG_FILE"),
        "/etc/pip.conf",
        home + "/.pip/pip.conf",
        config + "/pip/pip.conf",
    ]
    files += [folder + "/pip/pip.conf" for folder in shared] + [sys.prefix + "/pip.conf"]
    for path in filter(None, files):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                if _SETTING.search(file.read()):
                    return True
        except OSError:
            continue
    return False


def _has_pip() -> bool:
    """Whether this Python has a pip that can install for another Python."""
    try:
        from importlib import metadata

        numbers = metadata.version("pip").split(".")
        return (int(numbers[0]), int(numbers[1])) >= (22, 3)
    except (ImportError, ValueError, IndexError):
        return False
