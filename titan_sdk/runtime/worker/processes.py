"""Control of process trees by the kernel's means: subreapers, parent-death signals and /proc."""

from __future__ import annotations

import os
import sys
import time

from . import limits
from .c_modules import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List, Optional

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LINUX = sys.platform.startswith("linux")
_ROUNDS = 20
_subreaper = False


_found: List[Any] = []
"""The C half of ctypes and its prctl, after the first look-up. Forks inherit them."""


def _prctl(option: int, value: int) -> bool:
    if not LINUX:
        return False
    try:
        if not _found:
            # Importing the Python half costs each job 2 ms.
            library: Any = __import__("_ctypes")
            _found.extend((library, library.dlsym(library.dlopen(None, 0), "prctl")))
        return bool(_found[0].call_function(_found[1], (option, value, 0, 0, 0)) == 0)
    except (ImportError, AttributeError, OSError):
        return _prctl_by_ctypes(option, value)


def _prctl_by_ctypes(option: int, value: int) -> bool:
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (ImportError, AttributeError, OSError):
        return False


def become_subreaper() -> bool:
    """Have orphaned descendants become children of this process. False: the system does not support that."""
    global _subreaper
    _subreaper = _prctl(PR_SET_CHILD_SUBREAPER, 1)
    return _subreaper


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when `parent`, its parent until now, dies."""
    _prctl(PR_SET_PDEATHSIG, number)
    if LINUX and os.getppid() != parent:
        os._exit(1)


def patiently(start: Callable[[], int]) -> int:
    """Run a function that forks or starts a thread. Repeated while the machine or the user has too many processes."""
    until = time.monotonic() + limits.FORK_PATIENCE
    while True:
        try:
            return start()
        except (BlockingIOError, RuntimeError):
            # Python raises the second one for a thread.
            if time.monotonic() >= until:
                raise
        time.sleep(0.2)


def children() -> List[int]:
    """The pids of this process's direct children, including zombies; empty without /proc."""
    found: List[int] = []
    try:
        for thread in os.listdir("/proc/self/task"):
            with open("/proc/self/task/%s/children" % thread) as listing:
                found.extend(map(int, listing.read().split()))
        return found
    except (OSError, ValueError):
        return children_by_scan()


def children_by_scan() -> List[int]:
    """``children``, slower but complete: the kernel's list may lack a child while another one ends."""
    return by_parent().get(os.getpid(), [])


def by_parent() -> Dict[int, List[int]]:
    """The processes of this machine, by their present parents."""
    found: Dict[int, List[int]] = {}
    for pid in all_pids():
        fields = _stat(str(pid), "")
        if len(fields) > 1:
            found.setdefault(int(fields[1]), []).append(pid)
    return found


def all_pids() -> List[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _stat(pid: str, default: str) -> List[str]:
    """The fields of /proc/<pid>/stat from the state on. The command name before them may contain any characters."""
    try:
        with open("/proc/%s/stat" % pid, errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()
    except OSError:
        return [default]


def kill_children(patience: float, reaped: Callable[[int, int], None], group: int = 0) -> bool:
    """Kill all descendants of this process. True: none is left.

    Only direct children are killed. No other process can reap them, so a pid cannot belong to another process by then.
    Their orphans become children of this subreaper, and are killed in the next round. Without a subreaper only the
    process group `group` is killed.
    """
    if group and not _subreaper:
        send(-group, signal.SIGKILL)
    # Counted in pauses, because this process may be suspended in between.
    waited, pause = 0.0, 0.0005
    while True:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                reaped(pid, status)
        except ChildProcessError:
            return True
        for pid in children():
            send(pid, signal.SIGKILL)
        if waited > patience:
            return False
        time.sleep(pause)
        waited, pause = waited + pause, min(pause * 2, 0.02)


def send(pid: int, number: int) -> bool:
    """Send a signal to a process, or to a group by its negative number. Returns whether the target exists."""
    try:
        os.kill(pid, number)
    except OSError:
        # The process is gone, or another user's by setuid, which can only be waited for.
        return False
    return True


def send_to_group(leader: int, number: int) -> None:
    """Send a signal to the group of an unreaped process, or to the process itself if it has not made its group yet."""
    if not send(-leader, number):
        send(leader, number)


def marks_of(pid: int, *variables: str) -> Optional[Dict[str, str]]:
    """The given variables of a process's initial environment, and under "" the process's name, which a fork keeps. None for
    a process that is ending, or is another user's.
    """
    try:
        with open("/proc/%d/environ" % pid, "rb") as environ:
            entries = environ.read()
        with open("/proc/%d/comm" % pid, "rb") as comm:
            name = comm.read()
    except PermissionError:
        return {"": ""}
    except OSError:
        return None
    if not entries:
        return None
    marks = {"": os.fsdecode(name.rstrip(b"\n"))}
    for entry in entries.split(b"\0"):
        variable, _, value = entry.partition(b"=")
        if os.fsdecode(variable) in variables:
            marks[os.fsdecode(variable)] = os.fsdecode(value)
    return marks


def find(is_meant: Callable[[Dict[str, str]], bool], *variables: str) -> List[int]:
    """The processes of this machine whose marks match."""
    found = ((pid, marks_of(pid, *variables)) for pid in all_pids())
    return [pid for pid, marks in found if marks is not None and is_meant(marks)]


def end(is_meant: Callable[[Dict[str, str]], bool], *variables: str) -> int:
    """Kill every process of this machine whose marks match. Returns their number.

    It is for runs whose guards are dead. It repeats until a round finds no process: the next round finds a child that was
    forked during the search.
    """
    total = 0
    for _ in range(_ROUNDS):
        found = sum(_kill_if_meant(pid, is_meant, variables) for pid in all_pids())
        total += found
        if not found:
            break
    return total


def _kill_if_meant(pid: int, is_meant: Callable[[Dict[str, str]], bool], variables: Iterable[str]) -> bool:
    """Check and kill, while a pidfd keeps the number from being reused (if this Python has pidfds)."""
    pinned = -1
    try:
        if hasattr(os, "pidfd_open"):
            pinned = os.pidfd_open(pid)
        marks = marks_of(pid, *variables)
        if marks is None or not is_meant(marks):
            return False
        if pinned < 0:
            return send(pid, signal.SIGKILL)
        signal.pidfd_send_signal(pinned, signal.SIGKILL)
    except OSError:
        return False
    finally:
        if pinned >= 0:
            os.close(pinned)
    return True


_scope: List[str] = []
"""The boot id and the pid namespace of this process. A fork has the same."""


def identity(*pids: int) -> Optional[str]:
    """A name of these processes that is unique while the machine is up; None without /proc."""
    try:
        if not _scope:
            with open("/proc/sys/kernel/random/boot_id") as boot:
                _scope.append(boot.read().strip() + "/" + os.readlink("/proc/self/ns/pid"))
        return " ".join(_scope + ["%d.%s" % (pid, _stat(str(pid), "")[19]) for pid in pids])
    except (OSError, IndexError):
        return None


def known_dead(name: Optional[str]) -> bool:
    """Whether all processes of an `identity` are certainly gone. False if this machine cannot know."""
    scope, *processes = (name or "").split(" ")
    if not processes or (identity() or "?") != scope:
        return False
    for process in processes:
        pid, _, started = process.partition(".")
        fields = _stat(pid, "")
        if len(fields) > 19 and fields[19] == started and fields[0] not in ("Z", "X"):
            return False
    return True
