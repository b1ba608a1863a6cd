"""The guard of one program: it leaves nothing of it alive, however it ends, and also when the worker process is killed.

A fork of the worker process, and subreaper of its program. A job with the runtime has such a guard in its launcher.
"""

from __future__ import annotations

import os
import select
import time
from typing import NoReturn

from titan_sdk.cluster.worker.protocol import Start
from titan_sdk.runtime.worker import limits, processes
from titan_sdk.runtime.worker.natives import signal

__all__ = ["KILL_PATIENCE", "watch"]

KILL_PATIENCE = limits.KILL_PATIENCE
_HEARD = (signal.SIGCHLD, signal.SIGTERM)
_DEFAULT = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, *_HEARD)


def watch(start: Start, environment: dict[str, str], log: int, death: int) -> NoReturn:
    """Run the program to its end, and leave with its exit code, 128 + n for signal n.

    SIGTERM stops it. So does the end of ``death``, which only the worker process can write to.

    Raises:
        OSError, ValueError: it could not be started.
    """
    wake = _hear_signals()
    processes.become_subreaper()
    program = _spawn(start, environment, log)
    os.close(log)
    guard = _Guard(program, start.grace, start.rest)
    try:
        guard.wait(wake, death)
    finally:
        processes.kill_children(KILL_PATIENCE, guard.reaped, program)
        os._exit(guard.code)


def _hear_signals() -> int:
    """Signals arrive as bytes on a pipe that poll can wait for."""
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


def _spawn(start: Start, environment: dict[str, str], log: int) -> int:
    return os.posix_spawn(
        start.argv[0],
        start.argv,
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
        setsid=True,
        setsigmask=[],
        setsigdef=_DEFAULT,
    )


class _Guard:
    def __init__(self, program: int, grace: float, rest: float) -> None:
        self._program, self._grace, self._rest = program, grace, rest
        self._ended = False
        self._until: float | None = None
        """When what is left is killed; set once it is stopped or its first process was killed."""
        self._asks = False
        """Whether what comes up to this process is asked to end."""
        self._told: set[int] = set()
        self.code = 0

    def wait(self, wake: int, death: int) -> None:
        """Until the program has ended, and, where it was stopped or killed, the rest of it or its time."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(death, select.POLLIN)
        while not self._is_over():
            for descriptor, _ in poll.poll(None if self._until is None else limits.LOOK_EVERY * 1000):
                if descriptor == wake:
                    if signal.SIGTERM in os.read(wake, 4096):
                        self._stop()
                else:
                    poll.unregister(death)
                    self._stop()

    def _stop(self) -> None:
        if self._asks:
            return
        self._asks = True
        self._until = time.monotonic() + self._grace
        if not self._ended:
            # Not reaped yet, so the number means this program.
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
        """SIGTERM to those that were not in the group to which it was sent."""
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
            # Whoever sent it SIGTERM meant all of it; a launcher's guard, to which rest is given, sees to that itself.
            self._asks = os.WTERMSIG(status) == signal.SIGTERM and not self._rest
