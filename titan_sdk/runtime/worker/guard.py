"""The guard: the process between launcher and user code that leaves nothing of the job alive.

A real worker cancels by SIGKILL of the launcher alone. The guard holds the reading end of a pipe that only the
launcher can write to (the death pipe), notices, and stops the job: SIGTERM, the grace, SIGKILL of every descendant;
sessions of their own do not help them, as the guard is their subreaper. Then it hands in what the launcher cannot any
more. It holds the worker's stdout: a real worker gives the slot away when that is closed. The launcher is a subreaper
too, for the case that the guard is the one that is killed.

Forked, never exec'd: it costs no second interpreter start. It must not touch threads, nor the network while it watches.
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
    """A program and its environment variables, the seconds that it has, what the log says before, and whether it is
    the last one, the job's own. Each follows the success of the one before.
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
        """STOP: SIGTERM, then SIGKILL after the grace. KILL: SIGKILL at once."""
        try:
            os.write(self.control, word)
        except OSError:
            # It is gone; its status pipe says so to whoever waits.
            pass

    def pump(self, keep: Callable[[bytes], None]) -> Tuple[str, int]:
        """Hand the output over until the guard has ended; its report and its wait status."""
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
        # The guard leaves nothing alive; if it was itself killed, what it held has come up to this process.
        processes.kill_children(limits.KILL_PATIENCE, _ignore, outcome.user_pid(report))
        drain(self.output, keep)
        return report, status


def _ignore(*_: object) -> None:
    pass


def drain(output: int, keep: Callable[[bytes], None]) -> None:
    """What a pipe still holds. Somebody out of reach may hold its other end for ever."""
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

    `ignored` are the signals the worker itself ignores; the user's process keeps ignoring them. It starts in
    `cwd`, by default where the launcher is. `heir` is called with the last output, in the guard, once a job whose
    launcher was killed has left nothing alive.
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
    """The guard's side: starts the user's process, and sees to its end."""

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
        """What the job printed after its launcher's death, the end of it."""
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
        """Signals, SIGCHLD first of all, arrive as bytes on a pipe that poll can wait for."""
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
        # Until the child has handlers of its own a SIGTERM waits: this process's would swallow it.
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
        # A worker's stdin is a pipe that nobody writes to or closes: reading it would block for ever.
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
        """Until the user's process has ended, or nothing may run any longer."""
        self.poll.register(self.control, select.POLLIN)
        self.poll.register(self.wake[0], select.POLLIN)
        while not self._is_over():
            ready = {descriptor for descriptor, _ in self.poll.poll(self._patience())}
            if self.wake[0] in ready:
                received = os.read(self.wake[0], 4096)
                if any(number in received for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
                    self._stop("stopped")
            if self.last_output in ready:
                # Or the job would wait for room in the pipe, or be ended by writing to nobody.
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
        """Milliseconds until it is time to look again."""
        if self.deadline is None:
            return None
        left = max((self.deadline - time.monotonic()) * 1000, 0.0)
        return min(left, _LONGEST_POLL if self.cause == "exit" else limits.LOOK_EVERY * 1000)

    def _stop(self, cause: str) -> None:
        """SIGTERM to the user's process group, once; SIGKILL to everything follows after the grace."""
        if self.cause != "exit":
            return
        self.cause = cause
        self.deadline = time.monotonic() + self.grace
        if not self.grace:
            return
        if not processes.send(-self.user, signal.SIGTERM):
            # It has not made its group yet.
            processes.send(self.user, signal.SIGTERM)

    def _ask_to_end(self) -> bool:
        """SIGTERM to what has come up to this process since, as its parents have ended; False once nothing is left.

        A shell is gone before the program that it waited for, which has its last words still to say.
        """
        found = processes.children()
        for pid in found:
            # The job's own group was sent it as a whole. Until they are reaped these numbers mean no others.
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
        """What is left of the launcher's work."""
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
            # Nobody is left to hear it.
            pass
