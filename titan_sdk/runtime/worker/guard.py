"""The guard: the process between the launcher and the user's code. It leaves no process of the job alive.

A real worker cancels by SIGKILL of the launcher only. The guard holds the reading end of a pipe that only the launcher
holds open for writing (the death pipe). When it closes, the guard stops the job: SIGTERM, the grace, then SIGKILL of every
descendant. Processes with their own sessions are killed too, because the guard is their subreaper. The guard then hands
in the record that the launcher no longer can. It holds the worker's stdout open, because a real worker frees the slot when
that closes. The launcher is a subreaper too, in case the guard itself is killed.

The guard is a fork without exec, so no second interpreter starts. It must not use threads, or the network while it watches.
"""

from __future__ import annotations

import os
import select
import time

from . import jobdir, limits, outcome, processes
from .c_modules import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, Iterable, Iterator, List, NoReturn, Optional, Set, Tuple

    Step = Tuple[List[bytes], Dict[bytes, bytes], Optional[float], bytes, bool]
    """A program, its environment variables, its time limit in seconds, a line for the log, and whether it is the last one,
    the job itself. A step starts after the success of the step before.
    """

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
        """Send a command. STOP: SIGTERM, then SIGKILL after the grace. KILL: SIGKILL at once."""
        try:
            os.write(self.control, word)
        except OSError:
            # The guard is gone; its status pipe reports that.
            pass

    def pump(self, keep: Callable[[bytes], None]) -> Tuple[str, int]:
        """Pass the output to `keep` until the guard has ended. Returns its report and its wait status."""
        poll = select.poll()
        poll.register(self.output, select.POLLIN)
        poll.register(self.status, select.POLLIN)
        heard = b""
        watching = True
        while watching:
            for descriptor, _ in poll.poll():
                data = os.read(descriptor, 65536)
                if descriptor == self.status:
                    heard += data
                    watching = bool(data)
                elif data:
                    keep(data)
                else:
                    poll.unregister(descriptor)
        report = heard.decode("utf-8", "replace")
        status = os.waitpid(self.pid, 0)[1]
        # The guard leaves nothing alive. If it was killed, its processes are children of this process now.
        processes.kill_children(limits.KILL_PATIENCE, _ignore, outcome.user_pid(report))
        drain(self.output, keep)
        return report, status


def _ignore(*_: object) -> None:
    pass


def drain(output: int, keep: Callable[[bytes], None]) -> None:
    """Read the rest of a pipe, without waiting for its end: an unreachable process may hold the other end for ever."""
    os.set_blocking(output, False)
    try:
        while True:
            data = os.read(output, 65536)
            if not data:
                return
            keep(data)
    except BlockingIOError:
        return


def start(
    steps: Iterator[Step],
    folder: str,
    ignored: List[int],
    cwd: Optional[bytes] = None,
    grace: float = limits.GRACE,
    heir: Optional[Callable[[bytes], None]] = None,
) -> Guard:
    """Fork the guard, which takes the steps. Must run before the launcher has threads.

    `ignored` are the signals that the worker ignores; the user's process ignores them too. It starts in `cwd`, by
    default in the launcher's folder. `heir` is called in the guard, with the last output, when no process is left of a
    job whose launcher was killed.
    """
    output, control, status = os.pipe(), os.pipe(), os.pipe()
    pid = processes.patiently(os.fork)
    if pid == 0:
        for unused in (control[1], status[0]):
            os.close(unused)
        warden = Warden(steps, output, control[0], status[1], folder, ignored, cwd)
        warden.grace, warden.heir = grace, heir
        warden.watch()
    for unused in (output[1], control[0], status[1]):
        os.close(unused)
    return Guard(pid, output[0], control[1], status[0])


class Warden:
    """The guard's side: starts the user's process, and ends it."""

    def __init__(
        self,
        steps: Iterator[Step],
        output: Tuple[int, int],
        control: int,
        status: int,
        folder: str,
        ignored: List[int],
        cwd: Optional[bytes],
    ) -> None:
        self.steps, self.is_last = steps, False
        self.last_output, self.output = output
        self.control, self.status = control, status
        self.grace = limits.GRACE
        self.heir: Optional[Callable[[bytes], None]] = None
        self.orphaned = False
        self.left = b""
        """The last output of the job after its launcher's death."""
        self.told: Set[int] = set()
        """Children that were sent SIGTERM."""
        self.folder, self.ignored, self.cwd = folder, ignored, cwd
        self.wake = (-1, -1)
        self.poll = select.poll()
        self.user = 0
        self.ended: Optional[int] = None
        self.cause = "exit"
        self.deadline: Optional[float] = None

    def watch(self) -> NoReturn:
        """Run the user's process to its end, whatever ends it, and leave with nothing alive."""
        try:
            os.setsid()
            processes.become_subreaper()
            self._watch_signals()
            self._go_on()
            self._let_go_of_everything_else()
            self._wait()
            clean = processes.kill_children(limits.KILL_PATIENCE, self._reaped, self.user)
            if self.orphaned:
                self._inherit()
            else:
                self._report("X %d %s %d\n" % (self.ended or 0, self.cause, clean))
        except BaseException as exc:  # noqa: BLE001 - whatever goes wrong here, nothing may stay alive
            self._report("E %s: %s\n" % (type(exc).__name__, exc))
            processes.kill_children(limits.KILL_PATIENCE, self._reaped, self.user)
        finally:
            os._exit(0)

    def _watch_signals(self) -> None:
        """Have signals, above all SIGCHLD, arrive as bytes on a pipe that poll can wait for."""
        self.wake = os.pipe()
        for end in self.wake:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self.wake[1], warn_on_full_buffer=False)
        for name in _HANDLED:
            number = getattr(signal, name)
            if number not in self.ignored:
                signal.signal(number, lambda *_: None)

    def _go_on(self) -> None:
        """Begin the next step."""
        argv, env, timeout, told, self.is_last = next(self.steps)
        if told:
            os.write(self.output, told)
        self.ended = None
        self._start(argv, env)
        if self.is_last:
            os.close(self.output)
        self.deadline = None if timeout is None else time.monotonic() + timeout

    def _start(self, argv: List[bytes], env: Dict[bytes, bytes]) -> None:
        guard = os.getpid()
        # SIGTERM is blocked until the child has its own handlers: this process's handler would swallow it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in _HANDLED])
        self.user = processes.patiently(os.fork)
        if self.user == 0:
            try:
                self._become_user(guard, argv, env, mask)
            except BaseException as exc:  # noqa: BLE001 - two processes must not both go on from here
                self._report("F %d %s\n" % (getattr(exc, "errno", None) or 0, exc))
            finally:
                os._exit(127)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._report("S %d\n" % self.user)

    def _become_user(
        self, guard: int, argv: List[bytes], env: Dict[bytes, bytes], mask: Iterable[int]
    ) -> None:
        os.setsid()
        for name in ("SIGPIPE", "SIGXFSZ") + _HANDLED:
            number = getattr(signal, name, None)
            if number is not None and number not in self.ignored:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        processes.die_with_parent(guard)
        # A worker's stdin is a pipe without input or end: reading it would block for ever.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(self.output, 1)
        os.dup2(self.output, 2)
        if self.cwd is not None:
            os.chdir(self.cwd)
        os.execve(argv[0], argv, env)

    def _let_go_of_everything_else(self) -> None:
        self.worker = os.dup(1)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        keep = {0, 1, 2, self.control, self.status, self.last_output, self.worker, *self.wake}
        if not self.is_last:
            keep.add(self.output)
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

    def _wait(self) -> None:
        """Wait until the user's process has ended, or its time is over."""
        self.poll.register(self.control, select.POLLIN)
        self.poll.register(self.wake[0], select.POLLIN)
        while not self._is_over():
            ready = {descriptor for descriptor, _ in self.poll.poll(self._patience())}
            if self.wake[0] in ready:
                received = os.read(self.wake[0], 4096)
                if any(number in received for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
                    self._stop("stopped")
            if self.last_output in ready:
                # Otherwise the job would wait for room in the pipe, or die of SIGPIPE.
                data = os.read(self.last_output, 65536)
                if data:
                    self._heard(data)
                else:
                    self.poll.unregister(self.last_output)
            if self.control in ready:
                word = os.read(self.control, 1)
                if word == KILL:
                    self.cause = "killed" if self.cause == "exit" else self.cause
                    return
                if not word:
                    self.orphaned = True
                    self.poll.unregister(self.control)
                    self.poll.register(self.last_output, select.POLLIN)
                self._stop("stopped")

    def _heard(self, data: bytes) -> None:
        self.left = (self.left + data)[-limits.CHUNK :]

    def _is_over(self) -> bool:
        self._reap()
        if self.ended == 0 and self.cause == "exit" and not self.is_last:
            self._go_on()
        late = self.deadline is not None and time.monotonic() >= self.deadline
        if self.cause == "exit":
            if self.ended is None and late:
                self._stop("timeout")
            return self.ended is not None
        return late or not self._ask_to_end()

    def _patience(self) -> Optional[float]:
        """Milliseconds until the next check."""
        if self.deadline is None:
            return None
        left = max((self.deadline - time.monotonic()) * 1000, 0.0)
        return min(left, _LONGEST_POLL if self.cause == "exit" else limits.LOOK_EVERY * 1000)

    def _stop(self, cause: str) -> None:
        """Send SIGTERM to the user's process group, once. SIGKILL to everything follows after the grace."""
        if self.cause != "exit":
            return
        self.cause = cause
        self.deadline = time.monotonic() + self.grace
        if not self.grace:
            return
        if not processes.send(-self.user, signal.SIGTERM):
            # The process has not made its group yet.
            processes.send(self.user, signal.SIGTERM)

    def _ask_to_end(self) -> bool:
        """Send SIGTERM to processes whose parents have ended since. False: no process is left.

        A shell ends before the program that it waited for, and that program may still print.
        """
        found = processes.children()
        for pid in found:
            # The job's group already got the signal. Until they are reaped, these numbers mean no other processes.
            if pid not in self.told and os.getpgid(pid) != self.user:
                processes.send(pid, signal.SIGTERM)
            self.told.add(pid)
        return bool(found)

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
        self.told.discard(pid)
        if pid == self.user:
            self.ended = status

    def _inherit(self) -> None:
        """Take over the rest of the launcher's work."""
        drain(self.last_output, self._heard)
        try:
            if self.heir is not None:
                os.dup2(self.worker, 1)
                self.heir(self.left)
        finally:
            jobdir.remove(self.folder)

    def _report(self, line: str) -> None:
        try:
            os.write(self.status, line.encode("utf-8", "backslashreplace")[:4000])
        except OSError:
            # The launcher is gone.
            pass
