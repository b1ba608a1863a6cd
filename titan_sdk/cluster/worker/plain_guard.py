"""The guard of a run without the runtime. It leaves no process of the run alive, also if the worker process is killed.

It is a fork of the worker process, and the subreaper of its run. It guards one run at a time and then waits for the next
one, because a fork costs more than the rest of a short run. For a job with the runtime it is the launcher, too.
"""

from __future__ import annotations

import marshal
import os
import select
import time
from typing import NoReturn

from titan_sdk.cluster.worker.forked_launcher import Launchers
from titan_sdk.cluster.worker.protocol import IDLE, LOG_FLAGS, RUN_MARK, SIGNALS, STOP, StartRequest, name_of
from titan_sdk.runtime.worker import limits, processes
from titan_sdk.runtime.worker.c_modules import signal

__all__ = [
    "KILL_PATIENCE",
    "LONGEST",
    "failure",
    "loads_report",
    "serve",
    "start_request",
]

KILL_PATIENCE = limits.KILL_PATIENCE
_HEARD = (signal.SIGCHLD, signal.SIGTERM)
LONGEST = 1 << 17
"""The largest request in bytes. A socket accepts it in one message."""


def start_request(start: StartRequest, environment: dict[str, str]) -> bytes:
    """The request to an idle guard."""
    return marshal.dumps((tuple(start), environment))


def loads_report(report: bytes) -> tuple[int | None, int, str]:
    """The exit code (128 + n for signal n), or ``None`` with the error number and text of a failed start."""
    code, number, why = marshal.loads(report)
    return code, number, why


def failure(exc: BaseException) -> bytes:
    """The report of a guard that could not start its run."""
    return marshal.dumps((None, getattr(exc, "errno", None) or 0, str(exc)[:500] or type(exc).__name__))


def serve(worker: int, start: StartRequest, environment: dict[str, str], library: str) -> NoReturn:
    """Guard this run, and then the requested ones.

    SIGTERM stops a run, and so do ``STOP`` and the end of ``worker``, a message socket to the worker process. A guard that
    cannot end all processes of a run exits with the run's exit code.

    Args:
        library: see ``Launchers``.
    """
    wake = _hear_signals()
    processes.become_subreaper()
    comm = os.open("/proc/self/comm", os.O_WRONLY)
    launchers = Launchers(library, worker, wake)
    while True:
        os.write(comm, name_of(start.run).encode())
        if start.spec:
            report = _launch(start, environment, launchers)
        else:
            report = _run(start, environment, wake, worker)
        os.write(comm, IDLE.encode())
        os.write(worker, report)
        request = os.read(worker, LONGEST)
        if request in (b"", STOP):
            os._exit(0)  # a guard that was told to stop gets no further run
        _forget_signals(wake)
        fields, environment = marshal.loads(request)
        start = StartRequest(*fields)


def _run(start: StartRequest, environment: dict[str, str], wake: int, worker: int) -> bytes:
    try:
        program = _spawn(start, environment)
    except (OSError, ValueError) as exc:
        return failure(exc)
    guard, is_clean = _PlainGuard(program, start.grace, start.rest), False
    try:
        guard.wait(wake, worker)
        is_clean = True
    finally:
        if not processes.kill_children(KILL_PATIENCE, guard.reaped, program) or not is_clean:
            os._exit(guard.code)
    return _report(guard.code)


def _launch(start: StartRequest, environment: dict[str, str], launchers: Launchers) -> bytes:
    try:
        code, is_clean = launchers.run(start, environment)
    except (OSError, ValueError, SyntaxError) as exc:
        return failure(exc)
    finally:
        os.chdir("/")
    if not is_clean:
        processes.kill_children(KILL_PATIENCE, lambda *_: None)
        os._exit(code)
    return _report(code)


def _report(code: int) -> bytes:
    return marshal.dumps((code, 0, ""))


def _hear_signals() -> int:
    """Have signals arrive as bytes on a pipe that poll can wait for."""
    wake, alarm = os.pipe()
    for end in (wake, alarm):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    for number in _HEARD:
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
    return wake


def _forget_signals(wake: int) -> None:
    """Drop signals that were meant for the last program."""
    try:
        os.read(wake, 4096)
    except BlockingIOError:
        pass


def _spawn(start: StartRequest, environment: dict[str, str]) -> int:
    log = -1
    try:
        os.chdir(start.cwd)
        log = os.open(start.log, LOG_FLAGS, 0o600)
        return os.posix_spawn(
            start.argv[0],
            start.argv,
            {**environment, RUN_MARK: start.run},
            file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
            setsid=True,
            setsigmask=[],
            setsigdef=SIGNALS,
        )
    finally:
        os.chdir("/")
        if log >= 0:
            os.close(log)


class _PlainGuard:
    def __init__(self, program: int, grace: float, rest: float) -> None:
        self._program, self._grace, self._rest = program, grace, rest
        self._ended = False
        self._until: float | None = None
        """When the remaining processes are killed; set once the run is stopped or its first process was killed."""
        self._asks = False
        """Whether orphans of the run get a SIGTERM."""
        self._told: set[int] = set()
        self.code = 0

    def wait(self, wake: int, worker: int) -> None:
        """Wait for the program. If it was stopped or killed, also wait for its other processes, for a limited time."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(worker, select.POLLIN)
        while not self._is_over():
            for descriptor, _ in poll.poll(None if self._until is None else limits.LOOK_EVERY * 1000):
                if descriptor == wake:
                    if signal.SIGTERM in os.read(wake, 4096):
                        self._stop()
                else:
                    if not os.read(worker, LONGEST):
                        poll.unregister(worker)
                    self._stop()

    def _stop(self) -> None:
        if self._asks:
            return
        self._asks = True
        self._until = time.monotonic() + self._grace
        if not self._ended:
            # The program is not reaped yet, so its pid is not reused.
            processes.send_to_group(self._program, signal.SIGTERM)

    def _is_over(self) -> bool:
        self._reap()
        if self._until is None:
            return self._ended
        found = processes.children()
        if self._asks:
            self._ask(found)
        return not found or time.monotonic() >= self._until

    def _ask(self, found: list[int]) -> None:
        """Send SIGTERM to processes outside the group that already got it."""
        for pid in found:
            if pid not in self._told and os.getpgid(pid) != self._program:
                processes.send(pid, signal.SIGTERM)
            self._told.add(pid)

    def _reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self.reaped(pid, status)
        except ChildProcessError:
            return

    def reaped(self, pid: int, status: int) -> None:
        """A child has ended."""
        self._told.discard(pid)
        if pid != self._program:
            return
        self._ended = True
        if os.WIFEXITED(status):
            self.code = os.WEXITSTATUS(status)
            return
        self.code = 128 + os.WTERMSIG(status)
        if self._until is None:
            self._until = time.monotonic() + self._rest
            # A SIGTERM from outside is meant for the whole run. A launcher's guard, which gets ``rest``, handles it itself.
            self._asks = os.WTERMSIG(status) == signal.SIGTERM and not self._rest
