"""The fork server's part of a keeper: what turns a fork of it into a Python job.

Such a keeper has imported nothing that a fresh interpreter would not have. So only modules that are built in or
loaded anyway are used here; what little is loaded more is forgotten again in the child. A launcher of a job with the
runtime keeps what it would import anyway. ``keeper_start.py`` runs this file before ``keeper.py``, in its namespace.
"""

from __future__ import annotations

import sys

_FRESH = frozenset(sys.modules) - {"__future__"}

import _signal  # type: ignore[import-not-found]  # noqa: E402
import _thread  # noqa: E402
import _weakref  # noqa: E402
import atexit  # noqa: E402
import gc  # noqa: E402
import os  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MARK_ROOM = 64
"""Characters kept in the environment of a fork server for the run's name; see ``_mark_memory``."""
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_INTERRUPTED = -1
_QUIET = frozenset(
    "_asyncio _bisect _blake2 _bz2 _contextvars _csv _datetime _decimal _elementtree _hashlib _heapq _json _lzma "
    "_md5 _multiprocessing _opcode _pickle _posixshmem _posixsubprocess _queue _random _sha1 _sha2 _sha256 _sha3 "
    "_sha512 _socket _statistics _struct _typing _uuid _zoneinfo array binascii cmath fcntl grp math mmap pyexpat "
    "resource select termios unicodedata zlib".split()
)
"""Extension modules that do nothing at the end of a process. Others may, with handlers of the C library."""
_OF_LAUNCHERS = (
    "__future__",
    "_ctypes",
    "_functools",
    "_json",
    "_sha2",
    "_sha256",
    "_socket",
    "binascii",
    "select",
    "zlib",
)
"""Modules that every launcher imports; what it starts is a new interpreter without them."""
_COLLECTED = 1 << 14
"""The flag of types whose instances the garbage collector knows."""
_CLEANERS = ("_weakrefset", "weakref")
"""Modules whose callbacks of weak references only tidy their own containers."""


class Fork:
    """What turns a fork of this process into ``python -u SCRIPT ARGS...``.

    A fork pays for each page of memory that it writes to: a copy of the page. So what every script would write
    first is written here, once, and what is only taken apart at an interpreter's end is left standing.
    """

    def __init__(self, *, launchers: bool) -> None:
        preloaded = _OF_LAUNCHERS if launchers else ()
        self._mark_at = _mark_memory()
        self._spared = _FRESH.union(preloaded)
        for name in preloaded:
            try:
                __import__(name)
            except ImportError:
                pass  # another version of Python has none of that name
        self._streams = (sys.stdout, sys.stderr)
        self._code: int | None = None
        self._skips = False
        """Whether the script's first line is not Python."""
        self.kept: object = None
        """What the fork has no use for, but would write to by freeing it."""
        # The first handler is called last, when threads have ended and the script's own handlers have run.
        atexit.register(self._leave)
        # It makes a class for each kind of syntax node when it is first used.
        compile("", "", "exec")
        gc.collect()
        gc.freeze()

    def prepare(self, run: str, more: dict[bytes, bytes], argv: list[str], cwd: str, log: str) -> str:
        """Become the job as far as the system is concerned; the script's path."""
        os.setsid()
        if self._mark_at is not None:
            fd = os.open("/proc/self/mem", os.O_WRONLY)
            os.pwrite(fd, run.encode().ljust(MARK_ROOM, b"\0"), self._mark_at)
            os.close(fd)
        _signal.set_wakeup_fd(-1)
        # As a cold job: a master under nohup ignores the first, one in the background of a script the last.
        for number in (_signal.SIGHUP, _signal.SIGTERM, _signal.SIGCHLD):
            _signal.signal(number, _signal.SIG_DFL)
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        out = os.open(log, _LOG_FLAGS, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.close(out)
        os.chdir(cwd)
        os.environb.update(more)
        os.environ["TITAN_RUN"] = run
        sys.orig_argv[:] = argv
        sys.argv[:] = argv[2:]
        if not sys.flags.safe_path:
            sys.path[0] = os.path.dirname(argv[2])
        for name in [name for name in sys.modules if name not in self._spared]:
            del sys.modules[name]
        self._skips = argv[1].endswith("x")
        return argv[2]

    def run(self, path: str) -> None:
        """As the interpreter runs a script: in a new ``__main__``, its failure shown by ``sys.excepthook``."""
        main = type(sys)("__main__")
        space = main.__dict__
        sys.modules["__main__"] = main
        loader = type(globals()["__loader__"])("__main__", path)
        space.update(__builtins__=sys.modules["builtins"], __file__=path, __cached__=None, __loader__=loader)
        space["__annotations__"] = {}
        try:
            with open(path, "rb") as file:
                source = file.read()
            if self._skips:
                source = b"\n" + source.partition(b"\n")[2]
            exec(compile(source, path, "exec", dont_inherit=True), space)
        except SystemExit as exc:
            self._code = _exit_code(exc.code)
            raise
        except BaseException as exc:  # noqa: BLE001 - shown as the interpreter shows it, which ends with this
            self._code = _INTERRUPTED if isinstance(exc, KeyboardInterrupt) else 1
            _show(exc)
        self._code = 0

    def _leave(self) -> None:
        """End the process here, unless the interpreter's own end would still do something that can be noticed."""
        if self._code is None:
            return  # the script itself has called its handlers, and goes on
        if self._code == _INTERRUPTED:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
            os.kill(os.getpid(), _signal.SIGINT)
        try:
            if (sys.stdout, sys.stderr) != self._streams or _has_last_words():
                return
            for stream in self._streams:
                stream.flush()
        except BaseException:  # noqa: BLE001 - a closed stream, a class that hides its attributes
            return
        os._exit(self._code)


def _exit_code(value: object) -> int:
    """What the interpreter makes of the value of a SystemExit."""
    if value is None:
        return 0
    if not isinstance(value, int):
        return 1
    return value & 255 if -(2**63) <= value < 2**63 else 255


def _has_last_words() -> bool:
    """Whether something is left that acts at the end of an interpreter: threads, finalizers, unwritten buffers.

    What was there before the fork is frozen and not among the objects looked at.
    """
    if _thread._count():
        return True
    for name, module in sys.modules.items():
        if name not in _FRESH and name not in _QUIET:
            spec = getattr(module, "__spec__", None)
            if type(getattr(spec, "loader", None)).__name__ == "ExtensionFileLoader":
                return True
    kinds = set()
    for found in gc.get_objects():
        kind = type(found)
        kinds.add(kind)
        if kind is _weakref.ReferenceType and not _only_tidies(found.__callback__):
            return True
        if isinstance(found, type) and "__del__" in found.__dict__ and not found.__flags__ & _COLLECTED:
            return True  # its instances are not among the objects
    return any(hasattr(kind, "__del__") for kind in kinds)


def _only_tidies(callback: Any) -> bool:
    """Whether the callback of a weak reference is a container's own. ``_destroy`` is that of abstract classes."""
    return callback is None or callback.__module__ in _CLEANERS or callback.__name__ == "_destroy"


def _mark_memory() -> int | None:
    """Where in this process's memory the value of TITAN_RUN stands that /proc shows: the kernel shows what the
    program was started with, and a child's processes are found by its run's name.
    """
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        found = memory.read(end - start).find(b"TITAN_RUN=" + b"_" * MARK_ROOM)
    return None if found < 0 else start + found + len(b"TITAN_RUN=")


def _show(exc: BaseException) -> None:
    trace = exc.__traceback__ and exc.__traceback__.tb_next
    exc.__traceback__ = trace  # without this file's frame
    sys.last_type, sys.last_value, sys.last_traceback = type(exc), exc, trace
    sys.excepthook(type(exc), exc, trace)
    raise SystemExit(1) from None
