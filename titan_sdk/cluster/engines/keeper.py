"""Starts a master's jobs and keeps their exit statuses, whatever becomes of the master.

    master == pipe: launches, kills ==> keeper -- one child per job: leader of its own session and group
           <= pipe: what became of them ==      `-- every start and end also goes to the file of exits

Run by ``keeper_start.py`` for `keeper_link.Keeper`; the master imports no more than its constants. When the master dies its pipe ends: the
keeper starts nothing more, stays until its last job has ended, and writes every status for the next master.

Of a kind other than COLD it is a fork server: a Python job is a fork of this interpreter, which has imported nothing
that a fresh one would not have. So only modules that are built in or loaded anyway are used here; what little is
loaded more is forgotten again in the child. A launcher of a job with the runtime keeps what it would import anyway.
"""

from __future__ import annotations

import sys

_FRESH = frozenset(sys.modules) - {"__future__"}

import _signal  # type: ignore[import-not-found]  # noqa: E402
import _thread  # noqa: E402
import _weakref  # noqa: E402
import atexit  # noqa: E402
import gc  # noqa: E402
import marshal  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Child = tuple[str, dict[bytes, bytes], list[str], str, str]
    """Run, more environment, argv, working directory, log."""

MARK_ROOM = 64
"""Characters kept in the environment of a fork server for the run's name; see ``_mark_memory``."""
_RESET = [_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGCHLD]
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_STARTING = "@0"
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


class Keeper:
    """See the module. ``fork`` holds what a warm child needs; it is ``None`` where every job is a new program."""

    def __init__(self, commands: int, reports: int, exits: int, name: str, fork: Fork | None) -> None:
        self._commands, self._reports, self._exits = commands, reports, exits
        self._name, self._fork = name, fork
        self._environments: dict[str, dict[bytes, bytes]] = {}
        self._runs: dict[str, int] = {}
        self._pids: dict[int, str] = {}
        self._buffer = b""
        self._child: Child | None = None

    def serve(self) -> Child | None:
        """Until the master is gone and so is every job. Returns a child only in that child: be it."""
        wake, alarm = os.pipe()
        for fd in (self._commands, self._reports, self._exits, wake, alarm):
            os.set_blocking(fd, fd not in (wake, alarm))
            os.set_inheritable(fd, False)
        _signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        ready = select.poll()
        ready.register(wake, select.POLLIN)
        ready.register(self._commands, select.POLLIN)
        is_open = True
        while is_open or self._pids:
            for fd, _ in ready.poll():
                if fd == wake:
                    os.read(wake, 4096)
                    self._reap()
                elif not self._read():
                    is_open = False
                    ready.unregister(self._commands)
                    self._write_exit(self._name, "closed")
                if self._child is not None:
                    for left in (self._commands, self._reports, self._exits, wake, alarm):
                        os.close(left)
                    return self._child
        return None

    # ------------------------------------------------------------------ commands

    def _read(self) -> bool:
        """Carry out what the master sent; false once it is gone."""
        data = os.read(self._commands, 65536)
        self._buffer += data
        while len(self._buffer) >= 4 and self._child is None:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                break
            command = marshal.loads(self._buffer[4:end])
            self._buffer = self._buffer[end:]
            self._obey(command)
        return bool(data)

    def _obey(self, command: tuple[Any, ...]) -> None:
        kind = command[0]
        if kind == "launch":
            self._launch(*command[1:])
        elif kind == "environment":
            self._environments[command[1]] = command[2]
        elif command[1] in self._runs:
            # Not reaped yet, or it would not be in the table: the number means this run.
            _kill_group(self._runs[command[1]])

    def _launch(self, warm: bool, environment: str, child: Child) -> None:
        run = child[0]
        # Before the start: a next master must know a run that began from one that never will.
        self._write_exit(run, _STARTING)
        try:
            if warm and self._fork is not None:
                pid = os.fork()
                if not pid:
                    self._child = child
                    return
            else:
                pid = self._spawn(self._environments[environment], *child)
        except (OSError, ValueError) as exc:
            # ValueError: a NUL in an argument.
            self._report(run, "!" + str(exc).replace("\n", " "))
            return
        self._runs[run], self._pids[pid] = pid, run
        self._write_exit(run, f"@{pid}")

    @staticmethod
    def _spawn(
        environment: dict[bytes, bytes],
        run: str,
        more: dict[bytes, bytes],
        argv: list[str],
        cwd: str,
        log: str,
    ) -> int:
        os.chdir(cwd)  # posix_spawn has no other way; nothing here depends on it
        return os.posix_spawn(
            argv[0],
            argv,
            {**environment, **more, b"TITAN_RUN": run.encode()},
            file_actions=[(os.POSIX_SPAWN_OPEN, 1, log, _LOG_FLAGS, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)],
            setsid=True,
            setsigmask=[],
            setsigdef=_RESET,
        )

    # ------------------------------------------------------------------ ends

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            run = self._pids.pop(found.si_pid, None)
            if run is None:
                os.waitpid(found.si_pid, 0)
                continue
            code = found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status
            # What it left in its group would go on in a slot that is given away.
            _kill_group(found.si_pid)
            # Written before the number is free: who sees no process finds the status.
            self._write_exit(run, str(code))
            os.waitpid(found.si_pid, 0)
            del self._runs[run]
            self._report(run, str(code))

    def _write_exit(self, run: str, word: str) -> None:
        try:
            os.write(self._exits, f"{run} {word}\n".encode())
        except OSError:
            pass  # a full disk: the master hears it all the same, only a next one will not

    def _report(self, run: str, word: str) -> None:
        try:
            os.write(self._reports, f"{run} {word}\n".encode())
        except OSError:
            pass  # the master is gone; the next one reads the file


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, _signal.SIGKILL)
    except OSError:
        pass  # nobody is left in it, only other users' processes are, or it has not made its session yet
    else:
        return
    try:
        os.kill(pid, _signal.SIGKILL)
    except OSError:
        pass


class Fork:
    """What turns a fork of this process into ``python -u SCRIPT ARGS...``.

    A fork pays for each page of memory that it writes to: a copy of the page. So what every script would write
    first is written here, once, and what is only taken apart at an interpreter's end is left standing.
    """

    def __init__(self, preloaded: tuple[str, ...]) -> None:
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
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
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


def _main(commands: str, reports: str, exits: str, name: str, mode: str) -> None:
    fork = None if mode == "COLD" else Fork(_OF_LAUNCHERS if mode == "LAUNCHERS" else ())
    keeper = Keeper(int(commands), int(reports), int(exits), name, fork)
    child = keeper.serve()
    if child is not None and fork is not None:
        fork.kept = keeper
        fork.run(fork.prepare(*child))


if __name__ == "__main__":
    _main(*sys.argv[1:])
