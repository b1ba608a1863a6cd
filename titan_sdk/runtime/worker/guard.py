"""The guard: the process between launcher and user code that leaves nothing of the job alive.

A worker cancels by SIGKILL of the launcher alone. The guard holds the reading end of a pipe that only the
launcher can write to (the death pipe), notices, and kills every descendant; sessions of their own do not
help them, as the guard is their subreaper. It never holds the worker's stdout: a real worker ends a job when
that closes. The launcher is a subreaper too, for the case that the guard is the one that is killed.

Forked, never exec'd: it costs no second interpreter start. It must not touch threads or the network.
"""

from __future__ import annotations

import os
import select
import time

from . import jobdir, limits, processes
from .natives import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, NoReturn, Optional

STOP, KILL = b"t", b"k"
_LONGEST_POLL = 3600 * 1000  # milliseconds; poll counts them in 32 bits
_HANDLED = ("SIGCHLD", "SIGTERM", "SIGINT", "SIGHUP")


class Guard:
    """The launcher's side: the guard's pid and the three pipes."""

    def __init__(self, pid: int, output: int, control: int, status: int) -> None:
        self.pid = pid
        self.output = output
        """Reading end of the user's merged stdout and stderr."""
        self.control = control
        """Writing end of the death pipe."""
        self.status = status
        """Reading end of the guard's report."""

    def tell(self, word: bytes) -> None:
        """STOP: SIGTERM, then SIGKILL after the grace. KILL: at once."""
        try:
            os.write(self.control, word)
        except OSError:
            # It is gone; its status pipe says so to whoever waits.
            pass


def start(
    argv: List[bytes],
    env: Dict[bytes, bytes],
    folder: str,
    timeout: Optional[float],
    ignored: List[int],
    cwd: Optional[bytes] = None,
) -> Guard:
    """Fork the guard, which starts `argv`. Must run before the launcher has threads.

    `ignored` are the signals the worker itself ignores; the user's process keeps ignoring them. It starts in
    `cwd`, by default where the launcher is.
    """
    output, control, status = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        for unused in (output[0], control[1], status[0]):
            os.close(unused)
        _Warden(output[1], control[0], status[1], folder, timeout, ignored, cwd).watch(argv, env)
    for unused in (output[1], control[0], status[1]):
        os.close(unused)
    return Guard(pid, output[0], control[1], status[0])


class _Warden:
    """The guard's side."""

    def __init__(
        self,
        output: int,
        control: int,
        status: int,
        folder: str,
        timeout: Optional[float],
        ignored: List[int],
        cwd: Optional[bytes],
    ) -> None:
        self.output, self.control, self.status = output, control, status
        self.folder, self.timeout, self.ignored, self.cwd = folder, timeout, ignored, cwd
        self.wake = (-1, -1)
        self.user = 0
        self.ended: Optional[int] = None
        self.cause = "exit"
        self.deadline: Optional[float] = None

    def watch(self, argv: List[bytes], env: Dict[bytes, bytes]) -> NoReturn:
        """Run the user's process to its end, whatever ends it, and leave with nothing alive."""
        try:
            os.setsid()
            processes.become_subreaper()
            self._watch_signals()
            self._start(argv, env)
            self._let_go_of_everything_else()
            orphaned = self._wait()
            clean = processes.kill_children(limits.KILL_PATIENCE, self._reaped, self.user)
            if orphaned:
                jobdir.remove(self.folder)
            else:
                self._report("X %d %s %d\n" % (self.ended or 0, self.cause, clean))
        except BaseException as exc:  # noqa: BLE001 - whatever goes wrong here, nothing may stay alive
            self._report("E %s: %s\n" % (type(exc).__name__, exc))
            processes.kill_children(limits.KILL_PATIENCE, self._reaped, self.user)
        finally:
            os._exit(0)

    def _watch_signals(self) -> None:
        """Signals, SIGCHLD first of all, arrive as bytes on a pipe that poll can wait for."""
        self.wake = os.pipe()
        for end in self.wake:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self.wake[1], warn_on_full_buffer=False)
        for name in _HANDLED:
            number = getattr(signal, name)
            if number not in self.ignored:
                signal.signal(number, lambda *_: None)

    def _start(self, argv: List[bytes], env: Dict[bytes, bytes]) -> None:
        guard = os.getpid()
        self.user = os.fork()
        if self.user == 0:
            try:
                self._become_user(guard, argv, env)
            except BaseException as exc:  # noqa: BLE001 - two processes must not both go on from here
                self._report("F %d %s\n" % (getattr(exc, "errno", None) or 0, exc))
            finally:
                os._exit(127)
        os.close(self.output)
        self._report("S %d\n" % self.user)
        if self.timeout is not None:
            self.deadline = time.monotonic() + self.timeout

    def _become_user(self, guard: int, argv: List[bytes], env: Dict[bytes, bytes]) -> None:
        os.setsid()
        for name in ("SIGPIPE", "SIGXFSZ") + _HANDLED:
            number = getattr(signal, name, None)
            if number is not None and number not in self.ignored:
                signal.signal(number, signal.SIG_DFL)
        processes.die_with_parent(guard)
        # A worker's stdin is a pipe that nobody writes to or closes: reading it would block for ever.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(self.output, 1)
        os.dup2(self.output, 2)
        if self.cwd is not None:
            os.chdir(self.cwd)
        os.execve(argv[0], argv, env)

    def _let_go_of_everything_else(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        keep = {0, 1, 2, self.control, self.status, *self.wake}
        try:
            inherited = [int(name) for name in os.listdir("/dev/fd")]
        except OSError:
            inherited = list(range(3, 256))
        for descriptor in inherited:
            if descriptor not in keep:
                try:
                    os.close(descriptor)
                except OSError:
                    pass

    def _wait(self) -> bool:
        """Until the user's process has ended or must end now; True when the launcher is dead."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wake[0], select.POLLIN)
        while True:
            self._reap()
            if self.ended is not None:
                return False
            left = None if self.deadline is None else (self.deadline - time.monotonic()) * 1000
            if left is not None and left <= 0:
                if self.cause != "exit":
                    return False
                self._stop("timeout")
                continue
            ready = {
                descriptor for descriptor, _ in poll.poll(left if left is None else min(left, _LONGEST_POLL))
            }
            if self.wake[0] in ready:
                received = os.read(self.wake[0], 4096)
                if any(number in received for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
                    self._stop("stopped")
            if self.control in ready:
                word = os.read(self.control, 1)
                if word == STOP:
                    self._stop("stopped")
                else:
                    self.cause = "killed" if self.cause == "exit" else self.cause
                    return word != KILL

    def _stop(self, cause: str) -> None:
        """SIGTERM to the user's process group, once; SIGKILL to everything follows after the grace."""
        if self.cause != "exit":
            return
        self.cause = cause
        self.deadline = time.monotonic() + limits.GRACE
        try:
            os.killpg(self.user, signal.SIGTERM)
        except OSError:
            # Not yet in its own session, or gone: the deadline sees to it.
            pass

    def _reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._reaped(pid, status)
        except ChildProcessError:
            return

    def _reaped(self, pid: int, status: int) -> None:
        if pid == self.user:
            self.ended = status

    def _report(self, line: str) -> None:
        try:
            os.write(self.status, line.encode("utf-8", "backslashreplace")[:4000])
        except OSError:
            # Nobody is left to hear it.
            pass
