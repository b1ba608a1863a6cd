"""Ends a job's processes if Ray's worker process dies; a script of its own, one per worker process.

The worker puts the mark of a run into memory that both share before it starts it, and an empty line once nothing of it
is left: this process is not woken for that. It is by the end of the pipe, with the worker's. If a run is open then,
everything that has the mark in its environment is killed: no job outlives the worker that reports on it, and none
holds a GPU that Ray gives to the next.
"""

from __future__ import annotations

import os
import signal
import sys
import time

_ROUNDS = 50
_PAUSE = 0.02
_QUIET = 5
"""Rounds without a find before the search ends: a child that was being made has its environment by then."""


def watch(pipe: int, shared: int) -> bytes:
    """The mark that was open when the worker ended, if any."""
    while os.read(pipe, 4096):
        pass  # nothing is ever written to it
    return os.pread(shared, os.fstat(shared).st_size, 0).partition(b"\n")[0]


def end_marked(mark: bytes) -> None:
    """Kill until nothing more is found for a while."""
    quiet = 0
    for _ in range(_ROUNDS):
        found = sum(_kill_if_marked(int(name), mark) for name in os.listdir("/proc") if name.isdigit())
        quiet = 0 if found else quiet + 1
        if quiet >= _QUIET:
            return
        time.sleep(_PAUSE)


def _kill_if_marked(pid: int, mark: bytes) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # The mark is read while the pidfd pins the number to one process.
        with open(f"/proc/{pid}/environ", "rb") as environ:
            if mark not in environ.read().split(b"\0"):
                return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def main() -> None:
    """Until the worker is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mark = watch(0, int(sys.argv[1]))
    if mark:
        end_marked(mark)


if __name__ == "__main__":
    main()
