"""Starts a master's jobs and keeps their exit statuses, whatever becomes of the master.

    master == pipe: launches, kills ==> keeper -- one child per job: leader of its own session and group
           <= pipe: what became of them ==      `-- every start and end also goes to the file of exits

Run by ``keeper_start.py`` for `keeper_link.Keeper`; nothing imports it. When the master dies its pipe ends: the
keeper starts nothing more, stays until its last job has ended, and writes every status for the next master.

Of a kind other than COLD it is a fork server, see ``keeper_fork.py``. Of a kind that starts launchers it is a subreaper:
what the death of a launcher and its guard leaves without parents comes up to it, and is ended.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import marshal
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from titan_sdk.cluster.engines.keeper_fork import Fork  # noqa: TC004 - it is in this namespace by then

    Child = tuple[str, dict[bytes, bytes], list[str], str, str]
    """Run, more environment, argv, working directory, log."""

_RESET = [_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGCHLD]
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_STARTING = "@0"
_NEVER_BEGAN = "never began"  # as in ``orphans.py``
_PR_SET_CHILD_SUBREAPER = 36
_MARK = b"TITAN_RUN="
_GRACE_SECONDS = 5.0
"""For what is left of a run whose first process was sent SIGTERM by somebody else than this process's master."""
_HUNT_SECONDS = 5.0
"""After which a process that SIGKILL does not end, as it waits for a device, holds its slot no longer."""
_HUNT_STEP = 0.05


class Hunt:
    """What a run may have left alive: the word about the run, its process group, until when the rest may end by itself."""

    def __init__(self, word: str, group: int, until: float) -> None:
        self.word, self.group, self.until = word, group, until
        self.tried: float | None = None
        """Since when it is being killed: this process may have stood still in between, which is nothing that was tried."""


class Keeper:
    """See the module. ``fork`` holds what a warm child needs; it is ``None`` where every job is a new program.

    Args:
        adopts: whether orphans of its jobs come up to it.
    """

    def __init__(
        self, commands: int, reports: int, exits: int, name: str, fork: Fork | None, *, adopts: bool
    ) -> None:
        self._commands, self._reports, self._exits = commands, reports, exits
        self._name, self._fork, self._adopts = name, fork, adopts
        self._environments: dict[str, dict[bytes, bytes]] = {}
        self._runs: dict[str, int] = {}
        self._pids: dict[int, str] = {}
        self._rests: dict[str, float] = {}
        """Seconds in which the rest of a run whose first process was killed ends by itself: its guard sees to that."""
        self._stops: dict[str, float] = {}
        """When a run that is being stopped is killed."""
        self._asked: set[int] = set()
        """Orphans that were sent SIGTERM."""
        self._hunted: dict[str, Hunt] = {}
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
        while is_open or self._pids or self._hunted:
            for fd, _ in ready.poll(_HUNT_STEP * 1000 if self._hunted or self._stops else None):
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
            for run, end in self._stops.items():
                if run in self._runs and time.monotonic() >= end:
                    _signal_group(self._runs[run], _signal.SIGKILL)
            if self._hunted:
                self._hunt()
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
        elif command[1] in self._runs and command[1] not in self._stops:
            self._stops[command[1]] = time.monotonic() + command[2]
            # For a next master, which must not ask it once more.
            self._write_exit("stop:" + command[1], "asked")
            if command[2]:
                # Not reaped yet, or it would not be in the table: the number means this run.
                _signal_group(self._runs[command[1]], _signal.SIGTERM)

    def _launch(self, warm: bool, environment: str, rest: float, child: Child) -> None:
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
            self._write_exit(run, _NEVER_BEGAN)
            self._report(run, f"!{getattr(exc, 'errno', 0)} " + str(exc).replace("\n", " "))
            return
        self._runs[run], self._pids[pid], self._rests[run] = pid, run, rest
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
                self._asked.discard(found.si_pid)
                os.waitpid(found.si_pid, 0)
                continue
            killed = found.si_code != os.CLD_EXITED
            code = 128 + found.si_status if killed else found.si_status
            now = time.monotonic()
            if killed and found.si_status == _signal.SIGTERM:
                # Perhaps by the next master, which has no other way to stop it.
                self._stops.setdefault(run, now + _GRACE_SECONDS)
            until = self._stops.get(run, 0.0)
            if until <= now or not self._adopts:
                # What it left in its group would go on in a slot that is given away.
                _signal_group(found.si_pid, _signal.SIGKILL)
            # Written before the number is free: who sees no process finds the status.
            self._write_exit(run, str(code))
            os.waitpid(found.si_pid, 0)
            del self._runs[run]
            rest = self._rests.pop(run)
            if killed or run in self._stops:
                self._hunted[run] = Hunt(str(code), found.si_pid, max(until, now + rest * killed))
            else:
                self._report(run, str(code))

    def _hunt(self) -> None:
        """End what is left of runs that were stopped or killed, and report each that has left nothing."""
        now = time.monotonic()
        orphans = self._orphans()
        for run, hunt in list(self._hunted.items()):
            left = orphans.get(run.encode(), ())
            gives_up = hunt.tried is not None and now > hunt.tried + _HUNT_SECONDS
            if gives_up or (not left and b"" not in orphans):
                del self._hunted[run]
                self._stops.pop(run, None)
                self._report(run, hunt.word)
                continue
            # They are children that are not reaped yet: the numbers mean no other processes.
            if now >= hunt.until:
                hunt.tried = hunt.tried or now
                for pid in left:
                    _send(pid, _signal.SIGKILL)
            elif run in self._stops:
                self._ask(left, hunt.group)

    def _ask(self, orphans: Iterable[int], group: int) -> None:
        """SIGTERM to those that were not in the group to which it was sent."""
        for pid in orphans:
            if pid not in self._asked and os.getpgid(pid) != group:
                _send(pid, _signal.SIGTERM)
            self._asked.add(pid)

    def _orphans(self) -> dict[bytes, list[int]]:
        """Processes that came up to this one, by run. Those of no name are ending or in the middle of an exec: what
        they are, or what comes up from below them, shows in a moment.
        """
        found: dict[bytes, list[int]] = {}
        for pid in _children():
            if pid not in self._pids:
                run = _run_of(pid)
                if run is not None:
                    found.setdefault(run, []).append(pid)
        return found

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


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except OSError:
        pass  # nobody is left in it, only other users' processes are, or it has not made its session yet
    else:
        return
    _send(pid, number)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass


def _children() -> list[int]:
    """The processes whose parent is this one. Not every kernel lists them, so all are asked. That takes time, so
    those count that have just ended: what was below them may have been asked before it came up.
    """
    found, me = [], str(os.getpid()).encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb", buffering=0) as stat:
                    parent = stat.read().rpartition(b")")[2].split()[1]
            except OSError:
                continue  # gone meanwhile
            if parent == me:
                found.append(int(name))
    return found


def _run_of(pid: int) -> bytes | None:
    """Whose the process is: nobody's that is known, or empty if it shows no environment, as one that is ending."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as environ:
            entries = environ.readall().split(b"\0")
    except PermissionError:
        return None  # another user's
    except OSError:
        return b""
    for entry in entries:
        if entry.startswith(_MARK):
            return entry[len(_MARK) :]
    return b"" if entries == [b""] else None


def _become_subreaper() -> None:
    """From now on what loses its parent below this process becomes its child. Other systems than Linux have no such
    thing; there, and where ctypes is missing, nothing is found.
    """
    try:
        library: Any = __import__("_ctypes")  # by itself: the Python half of ctypes is slow to import
        prctl = library.dlsym(library.dlopen(None, 0), "prctl")
        library.call_function(prctl, (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    except (ImportError, AttributeError, OSError):
        pass


def _main(commands: str, reports: str, exits: str, name: str, mode: str) -> None:
    adopts = mode != "SCRIPTS"  # whose forks shall find nothing imported
    if adopts:
        _become_subreaper()
    fork = None if mode == "COLD" else Fork(launchers=mode == "LAUNCHERS")
    keeper = Keeper(int(commands), int(reports), int(exits), name, fork, adopts=adopts)
    child = keeper.serve()
    if child is not None and fork is not None:
        fork.kept = keeper
        fork.run(fork.prepare(*child))


if __name__ == "__main__":
    _main(*sys.argv[1:])
