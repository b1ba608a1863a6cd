"""The worker process: starts runs, holds their ends, and reports them to its clients, by ``protocol.py``."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from titan_sdk.cluster.worker import forks, plain_guard, protocol
from titan_sdk.cluster.worker.protocol import ENDED, MARK, RUN_MARK, STOP, VERSION, StartRequest, encode
from titan_sdk.runtime.worker import limits, processes

__all__ = ["main"]

_FIRST_CLIENT_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_GUARD_SECONDS = limits.KILL_PATIENCE + 5.0
"""Seconds after a run's grace for its guard to end it."""
_TRIES = 100
"""How often a process is killed, every 50 ms, before its slot is freed: SIGKILL may not end it."""
_IDLE = 8
"""The most idle guards."""
_PEER = struct.Struct("iII")


class Peer:
    """A connection of a master or a Ray task."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unread, self.unsent = b"", b""
        self.waits = False
        """Whether poll waits until the socket takes more."""
        self.environments: dict[str, dict[str, str]] = {}

    def send(self, **message: Any) -> None:
        self.unsent += encode(**message)
        self.flush()

    def flush(self) -> None:
        """Send as much as the socket takes now."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.unsent = b""  # the peer is gone; the next read reports it


class WorkerRun:
    """A run that was started or requested."""

    def __init__(self, start: StartRequest, client: Peer) -> None:
        self.start = start
        self.client: Peer | None = client
        """The connection that gets the end."""
        self.holder = client if start.held else None
        self.pid = 0
        """The pid of its guard; 0 once the guard is reaped."""
        self.environment: dict[str, str] = {}
        self.dead = 0
        """The pid of its killed launcher, while the job's end is not handed in yet."""
        self.code: int | None = None
        self.is_over = False
        self.is_kept = False
        """Whether its end is stored in a file."""
        self.stopped_at: float | None = None
        self.dies_at: float | None = None
        """When its first process is killed."""
        self.killed_at = 0.0
        """When the remaining processes are killed."""
        self.tried = 0
        """The number of attempts. Counted, because this process may be suspended in between."""


class GuardProcess:
    """A process that guards one run at a time."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid, self.sock = pid, sock


class WorkerProcess:
    """The state and the loop of the worker process."""

    def __init__(self, listener: socket.socket, name: str, state: str, library: str) -> None:
        self._listener, self._name = listener, name
        self._ended = os.open(f"{state}/{ENDED}", os.O_RDONLY | os.O_DIRECTORY)
        self._clients: dict[int, Peer] = {}
        self._runs: dict[str, WorkerRun] = {}
        self._pids: dict[int, WorkerRun] = {}
        self._guards: dict[int, GuardProcess] = {}
        """The unreaped guards by pid."""
        self._idle: list[GuardProcess] = []
        self._left: list[WorkerRun] = []
        """The runs whose first process has ended, and of which other processes may be left."""
        self._heirs: dict[int, WorkerRun] = {}
        """The processes that hand in the ends of jobs whose launchers were killed."""
        self._given_up: set[int] = set()
        """The processes that SIGKILL does not end, because they wait for a device."""
        self._disowned: set[str] = set()
        """The runs that were reported as never begun."""
        self._next_try = 0.0
        self._wake, self._alarm = _pipe()
        self._library = library
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(listener, select.POLLIN)

    def serve(self) -> None:
        """Serve until there is neither a connection nor a run."""
        deadline: float | None = time.monotonic() + _FIRST_CLIENT_SECONDS
        while self._has_work() or (deadline is not None and time.monotonic() < deadline):
            ready = {fd for fd, _ in self._poll.poll(self._patience(deadline))}
            if self._wake in ready:
                self._hear()
            for found in [found for found in self._guards.values() if found.sock.fileno() in ready]:
                self._hear_guard(found)
            # Serve connections in the order of their arrival, each to its last request: a dead master may have requested a
            # run that the next master asks for.
            for fd in list(self._clients):
                self._serve_client(self._clients[fd], fd in ready)
            if self._listener.fileno() in ready:
                self._accept()
                deadline = None
            self._look()
        self._leave()

    def _has_work(self) -> bool:
        return bool(self._clients) or any(not run.is_over or not run.is_kept for run in self._runs.values())

    def _patience(self, deadline: float | None) -> float | None:
        if self._left or any(run.dies_at is not None for run in self._pids.values()):
            return limits.LOOK_EVERY * 1000
        if deadline is not None or any(
            run.is_over and run.client is None and not run.is_kept for run in self._runs.values()
        ):
            return _RETRY_SECONDS * 1000
        return None

    def _leave(self) -> None:
        """Store this process's name before its socket closes: a run that is not known to have started never began."""
        try:
            protocol.write_ended(self._ended, self._name, None)
        except OSError:
            pass  # runs that were never requested then count as started
        self._listener.close()
        for pid in self._guards:
            processes.send(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    # ------------------------------------------------------------------ clients

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # the client has gone, or there is no descriptor for it
        peer = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if peer[1] != os.geteuid():
            sock.close()
            return
        sock.setblocking(False)
        self._clients[sock.fileno()] = Peer(sock)
        self._poll.register(sock, select.POLLIN)

    def _serve_client(self, client: Peer, is_ready: bool) -> None:
        is_open = True
        while is_ready and is_open:
            try:
                data = client.sock.recv(1 << 18)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            is_open = bool(data)
            *lines, client.unread = (client.unread + data).split(b"\n")
            try:
                for line in lines:
                    self._obey(client, line)
            except (ValueError, KeyError, TypeError):
                is_open = False  # it is no client of this protocol
        if not is_open:
            self._lose(client)
            return
        if client.unsent or client.waits:
            client.flush()
            client.waits = bool(client.unsent)
            self._poll.modify(client.sock, select.POLLIN | (select.POLLOUT if client.waits else 0))

    def _lose(self, client: Peer) -> None:
        self._poll.unregister(client.sock)
        del self._clients[client.sock.fileno()]
        client.sock.close()
        for run in self._runs.values():
            if run.client is client:
                run.client = None
                if run.is_over:
                    self._keep(run)
            if run.holder is client:
                # At once: another node may already be starting it again, with the same devices.
                self._stop(run, now=True)

    def _obey(self, client: Peer, line: bytes) -> None:
        message = protocol.decode(line)
        word = message.pop("do", "")
        if word == "hello":
            client.send(**self._describe())
        elif word == "environment":
            client.environments[message["name"]] = {**message["values"], MARK: os.environ[MARK]}
        elif word == "start":
            self._start(client, StartRequest(**message))
        elif word == "follow":
            self._follow(client, message["run"])
        elif word == "stop" and message["run"] in self._runs:
            self._stop(self._runs[message["run"]], now=message.get("now", False))
        elif word == "forget" and message["run"] in self._runs and self._runs[message["run"]].is_over:
            del self._runs[message["run"]]

    def _describe(self) -> dict[str, Any]:
        runs = [
            {
                "run": run.start.run,
                "job": run.start.job,
                "ended": run.is_over,
                "code": run.code,
                "stopping": run.stopped_at is not None,
            }
            for run in self._runs.values()
        ]
        return {
            "is": "worker",
            "version": VERSION,
            "pid": os.getpid(),
            "mark": os.environ[MARK],
            "runs": runs,
        }

    def _follow(self, client: Peer, name: str) -> None:
        run = self._runs.get(name)
        if run is None:
            self._disowned.add(name)
            client.send(**{"is": "unknown"}, run=name)
            return
        run.client = client
        if run.is_over:
            client.send(**{"is": "ended"}, run=name, code=run.code)

    # ------------------------------------------------------------------ runs

    def _start(self, client: Peer, start: StartRequest) -> None:
        if start.run in self._disowned:
            return
        run = self._runs[start.run] = WorkerRun(start, client)
        environment = client.environments.get(start.environment)
        if environment is None:
            self._fail(run, 0, f"the environment {start.environment!r} was not sent")
            return
        run.environment = environment
        if not self._hand_over(run):
            self._new_guard(run)

    def _hand_over(self, run: WorkerRun) -> bool:
        """Give the run to an idle guard, if there is one."""
        request = plain_guard.start_request(run.start, run.environment)
        if not self._idle or len(request) > plain_guard.LONGEST:
            return False
        found = self._idle.pop()
        try:
            found.sock.send(request)
        except OSError:
            self._dismiss(found)  # the guard was killed
            return False
        self._begun(run, found.pid)
        return True

    def _new_guard(self, run: WorkerRun) -> None:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    pid = self._fork(
                        lambda inherited: forks.become_guard(
                            run.start, run.environment, inherited, theirs.fileno()
                        ),
                        ours.fileno(),
                    )
                except OSError:
                    ours.close()
                    raise
        except OSError as exc:
            self._fail(run, exc.errno or 0, f"{type(exc).__name__}: {exc}")
            return
        ours.setblocking(False)
        self._guards[pid] = GuardProcess(pid, ours)
        self._poll.register(ours, select.POLLIN)
        self._begun(run, pid)

    def _fork(self, become: Callable[[forks.Inherited], NoReturn], *closes: int) -> int:
        own = [
            *closes,
            self._listener.fileno(),
            self._ended,
            *self._clients,
            self._wake,
            self._alarm,
            *(found.sock.fileno() for found in self._guards.values() if found.sock.fileno() >= 0),
        ]
        inherited = forks.Inherited(own, self._library)
        # Until the child has its own pipe, its signal handlers write to this process's.
        signal.pthread_sigmask(signal.SIG_BLOCK, forks.HELD_BACK)
        try:
            pid = os.fork()
            if not pid:
                become(inherited)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, forks.HELD_BACK)

    def _begun(self, run: WorkerRun, pid: int) -> None:
        run.pid = pid
        self._pids[pid] = run

    def _hear_guard(self, found: GuardProcess) -> None:
        """Read a guard's report: its run has ended, or the guard itself has."""
        try:
            report = found.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            report = b""
        if not report:
            self._dismiss(found)  # its run is handled when the guard is reaped
            return
        run = self._pids.pop(found.pid)
        run.pid = 0
        code, number, why = plain_guard.loads_report(report)
        if code is not None and run.dies_at is None and len(self._idle) < _IDLE:
            self._idle.append(found)
        else:
            self._dismiss(found)  # it may be leaving, or was killed just now
        if code is None:
            self._fail(run, number, why)
        else:
            run.code = code
            self._conclude(run)

    def _dismiss(self, found: GuardProcess) -> None:
        """Close the guard's socket, so that it exits."""
        if found.sock.fileno() >= 0:
            self._poll.unregister(found.sock)
            found.sock.close()
        if found in self._idle:
            self._idle.remove(found)

    def _fail(self, run: WorkerRun, number: int, why: str) -> None:
        del self._runs[run.start.run]
        if run.client is not None:
            run.client.send(**{"is": "failed"}, run=run.start.run, errno=number, why=why)

    def _stop(self, run: WorkerRun, *, now: bool = False) -> None:
        if run.is_over or (run.stopped_at is not None and not now):
            return
        grace = 0.0 if now else run.start.grace
        run.stopped_at = time.monotonic()
        # The guard ends the run itself, and is killed if it does not.
        run.dies_at = run.stopped_at + grace + (0.0 if now or run.start.spec else _GUARD_SECONDS)
        if not run.pid or not grace:
            return
        try:
            self._guards[run.pid].sock.send(STOP)
        except OSError:
            return  # the guard has ended, or is killed later
        if run.start.spec:
            # After the request, for a launcher that had no signal handlers yet.
            processes.send(run.pid, signal.SIGTERM)

    def _hear(self) -> None:
        """Handle signals: children have ended, or this process must end its runs."""
        if signal.SIGTERM in os.read(self._wake, 4096):
            for run in self._runs.values():
                self._stop(run)
        self._reap()

    def _reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self._given_up.discard(pid)
                if pid in self._guards:
                    self._hear_guard(self._guards[pid])
                    self._dismiss(self._guards.pop(pid))
                run = self._pids.pop(pid, None)
                if run is not None:
                    self._reaped(run, pid, status)
                run = self._heirs.pop(pid, None)
                if run is not None:
                    self._conclude(run)
        except ChildProcessError:
            return

    def _reaped(self, run: WorkerRun, pid: int, status: int) -> None:
        run.pid = 0
        killed = os.WIFSIGNALED(status)
        run.code = 128 + os.WTERMSIG(status) if killed else os.WEXITSTATUS(status)
        if killed or any(not self._is_known(pid) for pid in processes.children()):
            now = time.monotonic()
            is_late = run.dies_at is not None and now >= run.dies_at
            run.dead = pid if killed and run.start.spec and not is_late else 0
            run.killed_at = now + (0.0 if is_late else run.start.rest)
            self._left.append(run)
        else:
            self._conclude(run)

    def _conclude(self, run: WorkerRun) -> None:
        """Finish a run, of which no process is left."""
        dead, run.dead = run.dead, 0
        if dead and self._has_heir(run, dead):
            return
        run.is_over = True
        if run.client is not None:
            run.client.send(**{"is": "ended"}, run=run.start.run, code=run.code)
        else:
            self._keep(run)

    def _has_heir(self, run: WorkerRun, dead: int) -> bool:
        try:
            heir = self._fork(
                lambda inherited: forks.become_heir(run.start, run.environment, inherited, dead)
            )
        except OSError:
            return False  # the job's record stays unfinished
        self._heirs[heir] = run
        return True

    def _keep(self, run: WorkerRun) -> None:
        """Store the run's end for the next master, in case this process has ended by then."""
        try:
            if not run.start.held:  # a held run's holder is gone, so no client will ask
                protocol.write_ended(self._ended, run.start.run, run.code)
        except FileNotFoundError:
            pass  # the data directory was removed, so no master will ask
        except OSError:
            return  # no room on the disk: tried again later, and this process stays until then
        run.is_kept = True

    # ------------------------------------------------------------------ what is due

    def _look(self) -> None:
        now = time.monotonic()
        for run in self._pids.values():
            if run.dies_at is not None and now >= run.dies_at:
                processes.send(run.pid, signal.SIGKILL)
        if self._left:
            self._reap()
            self._hunt(now)
        if now >= self._next_try:
            self._next_try = now + _RETRY_SECONDS
            for run in self._runs.values():
                if run.is_over and run.client is None and not run.is_kept:
                    self._keep(run)

    def _is_known(self, pid: int) -> bool:
        return pid in self._pids or pid in self._guards or pid in self._heirs

    def _hunt(self, now: float) -> None:
        """End orphans of dead guards, which are children of this process now. Orphans without a run are killed."""
        names = {run.start.run: run for run in self._left}
        names.update((protocol.name_of(run.start.run), run) for run in self._left)
        found: dict[WorkerRun, list[int]] = {}
        is_clear = True
        for pid in processes.children_by_scan():
            if self._is_known(pid) or pid in self._given_up:
                continue
            marks = processes.marks_of(pid, RUN_MARK)
            run = None if marks is None else names.get(marks.get(RUN_MARK) or marks[""])
            if run is not None:
                found.setdefault(run, []).append(pid)
            else:
                # It may be ending, and its children may become this process's now.
                is_clear = False
                processes.send(pid, signal.SIGKILL)
        for run in list(self._left):
            rest = found.get(run, [])
            if (not rest and is_clear) or run.tried >= _TRIES:
                self._given_up.update(rest)
                self._left.remove(run)
                self._conclude(run)
            elif now >= run.killed_at or (run.dies_at is not None and now >= run.dies_at):
                run.tried += 1
                for pid in rest:
                    processes.send(pid, signal.SIGKILL)


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def _load_launcher() -> None:
    """Load all modules of the launcher now: later their files may be another version's."""
    folder = os.path.dirname(processes.__file__)
    for name in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(name)
        if suffix == ".py":
            __import__(f"titan_sdk.runtime.worker.{stem}")


def main(listener: int, name: str, state: str, library: str) -> None:
    """Serve on a listening Unix socket until there is nothing to do.

    Args:
        name: the name of this process.
        state: a folder that outlives it.
        library: the launcher's bundle.
    """
    try:
        processes.become_subreaper()
        processes.identity()  # cached for all launchers
        _load_launcher()
        worker = WorkerProcess(socket.socket(fileno=listener), name, state, library)
        gc.collect()
        gc.freeze()
        worker.serve()
    except BaseException:
        with open(f"{state}/{name}.error", "w", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        raise
