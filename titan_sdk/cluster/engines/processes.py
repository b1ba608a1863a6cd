"""Processes by number: waiting for one without polling, knowing one again, ending all of a run.

Linux only: everything here rests on pidfds and /proc.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from pathlib import Path

__all__ = [
    "boot_id",
    "end_marked",
    "exits_of",
    "is_child_of",
    "keeper_alive",
    "keeper_handle",
    "open_live",
    "parse_handle",
    "signal_leader_and_group",
]

_ROUNDS = 20
_PATIENCE_STEP = 0.05


@functools.cache
def boot_id() -> str:
    """Changes with every start of the machine, after which process numbers mean something else."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def keeper_handle(pid: int, name: str, exits: Path) -> str:
    """A text by which a later master finds the keeper of a run, and the file that it writes."""
    return f"{pid}:{name}:{boot_id()}:{_identity(exits)}:{exits}"


def exits_of(handle: str, own: Path, *, shared: bool) -> tuple[Path, bool]:
    """That file, and whether it is another master's, as this data directory is a copy of that one's.

    A folder that was renamed has its old files, by number; a copy has others.

    Args:
        own: the file of this master.
        shared: whether the store is not in the data directory, so that the last master may have had another one.
    """
    told = handle.split(":", 3)[3:]
    if not told:
        return own, False
    identity, _, path = told[0].partition(":")
    if not path:
        return Path(told[0]), False  # a handle of an earlier version
    if identity == _identity(own) or (not shared and parse_handle(handle)[2] != boot_id()):
        return own, False
    if shared:
        return Path(path), False
    if identity == _identity(Path(path)):
        return Path(path), True
    # That one is gone: this one was moved here from another file system, unless somebody still writes there.
    return own, keeper_alive(handle)


def _identity(path: Path) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_dev}.{found.st_ino}"


def keeper_alive(handle: str) -> bool:
    """Whether that keeper still runs."""
    pid, name, boot = parse_handle(handle)
    if boot != boot_id():
        return False
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    # Empty for a zombie, another program's if the number was used again.
    return name.encode() in arguments


def parse_handle(handle: str) -> tuple[int, str, str]:
    """Process number, name and boot; what another version wrote is a handle of another boot."""
    pid, _, rest = handle.partition(":")
    name, _, rest = rest.partition(":")
    boot = rest.partition(":")[0]
    return (int(pid) if pid.isdigit() else 0), name, boot


def is_child_of(pid: int, parent: int) -> bool:
    """Whether the process is there, if only to be reaped, and that parent's child."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return False
    return fields[1] == str(parent)


def open_live(pid: int, mark: bytes) -> int | None:
    """A pidfd of a run's process, or ``None`` if it is gone and its number means another one."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    # Only now is the number pinned; what it meant before does not count.
    if not _is_marked(pid, mark):
        os.close(pidfd)
        return None
    return pidfd


def signal_leader_and_group(leader: int, pidfd: int, number: int) -> None:
    """To a group whose leader may have ended unseen, in which case its number says nothing."""
    try:
        signal.pidfd_send_signal(pidfd, 0)
        # The leader exists still, as a zombie at least.
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        pass  # nobody is left in it, or only processes that changed their user


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
