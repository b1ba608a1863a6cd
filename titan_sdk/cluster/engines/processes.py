"""Ending what is left of a run on a Ray node. Linux only: everything here rests on pidfds and /proc."""

from __future__ import annotations

import os
import signal
import time

__all__ = ["end_marked", "mark_of"]

_ROUNDS = 20
_PATIENCE_STEP = 0.05


def mark_of(run: str) -> bytes:
    """What every process of a run has in its environment."""
    return f"TITAN_RUN={run}".encode()


def end_marked(mark: bytes, patience: float = 0.0, asked: int = 0) -> int:
    """SIGKILL every process that has this entry in its environment; how many had to be killed.

    Reaches what has left the process group (``setsid``, double forks). Repeats until a round finds nothing, so
    that a child forked during the search is found in the next round.

    Args:
        patience: seconds in which they may end by themselves. A job with the runtime has a guard that ends the
            rest of it and tidies up once its launcher is dead; killed at once, it could not.
        asked: the process group to which SIGTERM was sent; to what is not in it, it is sent now. 0: to nobody.
    """
    deadline = time.monotonic() + patience
    told: set[int] = set()
    while time.monotonic() < deadline:
        found = [pid for pid in _all_pids() if _is_marked(pid, mark)]
        if not found:
            return 0
        for pid in found if asked else ():
            if pid not in told and _group(pid) != asked:
                _signal_if_marked(pid, mark, signal.SIGTERM)
            told.add(pid)
        time.sleep(_PATIENCE_STEP)
    total = 0
    for _ in range(_ROUNDS):
        found_now = sum(_signal_if_marked(pid, mark, signal.SIGKILL) for pid in _all_pids())
        total += found_now
        if not found_now:
            break
    return total


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _is_marked(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return mark in environ.read().split(b"\0")
    except OSError:
        return False  # another user's process, or gone in the meantime


def _signal_if_marked(pid: int, mark: bytes, number: int) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # The mark is read while the pidfd pins the number to one process.
        if not _is_marked(pid, mark):
            return False
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True
