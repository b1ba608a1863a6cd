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
    from typing import Any

    from titan_sdk.cluster.engines.keeper_fork import Fork  # noqa: TC004 - it is in this namespace by then

    Child = tuple[str, dict[bytes, bytes], list[str], str, str]
    """Run, more environment, argv, working directory, log."""

_RESET = [_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGCHLD]
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_STARTING = "@0"
_PR_SET_CHILD_SUBREAPER = 36
_MARK = b"TITAN_RUN="
_GUARD_SECONDS = 0.5
"""In which a guard whose launcher was killed ends the rest of its job and tidies up; killed at once, it could not."""
_HUNT_SECONDS = 5.0
"""After which a process that SIGKILL does not end, as it waits for a device, holds its slot no longer."""
_HUNT_STEP = 0.05


class Keeper:
    """See the module. ``fork`` holds what a warm child needs; it is ``None`` where every job is a new program."""

    def __init__(self, commands: int, reports: int, exits: int, name: str, fork: Fork | None) -> None:
        self._commands, self._reports, self._exits = commands, reports, exits
        self._name, self._fork = name, fork
        self._environments: dict[str, dict[bytes, bytes]] = {}
        self._runs: dict[str, int] = {}
        self._pids: dict[int, str] = {}
        self._hunted: dict[str, tuple[str, float, float | None]] = {}
        """Runs that are over but may have left something alive: the word about each, since when, and since when it is
        being killed: this process may have stood still in between, which is nothing that was tried."""
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
            for fd, _ in ready.poll(_HUNT_STEP * 1000 if self._hunted else None):
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
        elif command[1] in self._runs:
            # Not reaped yet, or it would not be in the table: the number means this run.
            _kill_group(self._runs[command[1]])

    def _launch(self, warm: bool, environment: str, child: Child) -> None:
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
            self._report(run, "!" + str(exc).replace("\n", " "))
            return
        self._runs[run], self._pids[pid] = pid, run
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
                os.waitpid(found.si_pid, 0)
                continue
            code = found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status
            # What it left in its group would go on in a slot that is given away.
            _kill_group(found.si_pid)
            # Written before the number is free: who sees no process finds the status.
            self._write_exit(run, str(code))
            os.waitpid(found.si_pid, 0)
            del self._runs[run]
            if found.si_code == os.CLD_EXITED:
                self._report(run, str(code))
            else:
                self._hunted[run] = (str(code), time.monotonic(), None)

    def _hunt(self) -> None:
        """End what is left of runs whose first process was killed, and report each that has left nothing."""
        now = time.monotonic()
        orphans = self._orphans()
        for run, (word, since, tried) in list(self._hunted.items()):
            left = orphans.get(run.encode(), ())
            gives_up = tried is not None and now > tried + _HUNT_SECONDS
            if gives_up or (not left and b"" not in orphans):
                del self._hunted[run]
                self._report(run, word)
            elif now > since + _GUARD_SECONDS:
                for pid in left:
                    _kill(pid)  # a child that is not reaped yet: the number means no other process
                self._hunted[run] = (word, since, tried or now)

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


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, _signal.SIGKILL)
    except OSError:
        pass  # nobody is left in it, only other users' processes are, or it has not made its session yet
    else:
        return
    _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, _signal.SIGKILL)
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
    if mode != "SCRIPTS":  # whose forks shall find nothing imported
        _become_subreaper()
    fork = None if mode == "COLD" else Fork(launchers=mode == "LAUNCHERS")
    keeper = Keeper(int(commands), int(reports), int(exits), name, fork)
    child = keeper.serve()
    if child is not None and fork is not None:
        fork.kept = keeper
        fork.run(fork.prepare(*child))


if __name__ == "__main__":
    _main(*sys.argv[1:])
