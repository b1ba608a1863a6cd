"""The launcher of a job with the runtime, in the process that guards the job: only the job itself is forked.

It does in one process what ``titan_sdk.runtime.worker`` does in two, for one job after another, over one connection.
"""

from __future__ import annotations

import marshal
import os
import select
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from titan_sdk.cluster.worker.protocol import LOG_FLAGS, RUN_MARK, SIGNALS, StartRequest
from titan_sdk.runtime.worker import guard, interpreter, jobdir, limits, lost_launcher, main, processes, store
from titan_sdk.runtime.worker.c_modules import signal
from titan_sdk.runtime.worker.record import Record
from titan_sdk.runtime.worker.shipper import Shipper

__all__ = ["Launchers", "hand_in_for"]

_ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOCALE = os.environ.get("LC_CTYPE")
"""The variable that Python sets in the C locale for itself, and for its children."""
_ROUTE = ("TITAN_KEEP_ALIVE", "TITAN_SOCKET", "TITAN_RUNTIME_SOCKET")
"""The variables with the master's address."""
_SAME_PYTHON = [os.fsencode(sys.executable), b"-u", b"-c", interpreter.RUNNER]
_COMPILED = [*_SAME_PYTHON[:3], interpreter.RUNNER.replace(b"main()", b"main(True)")]
_SOURCE = 64 * 1024
"""The largest script that is compiled here, in bytes."""


class Launchers:
    """The launchers of one guard, one after another.

    Args:
        library: the launcher's bundle: the folder with the modules for its jobs.
        worker: the socket on which a stop request may wait.
        wake: the pipe on which signals arrive as bytes.
    """

    def __init__(self, library: str, worker: int, wake: int) -> None:
        self._library, self._worker, self._wake = library, worker, wake
        self._route: object = None
        self._master: store.StoreConnection | None = None
        self._environment: Mapping[str, str] | None = None
        self._encoded: dict[bytes, bytes] = {}
        self._null = os.open(os.devnull, os.O_RDWR)

    def run(self, start: StartRequest, environment: Mapping[str, str]) -> tuple[int, bool]:
        """Run a job. Returns its exit code, and whether no process and no thread of it is left.

        Raises:
            OSError, ValueError, SyntaxError: nothing was started.
        """
        spec: dict[str, Any] = eval(start.spec, {"__builtins__": {}})
        os.chdir(start.cwd)
        log = os.open(start.log, LOG_FLAGS, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        if environment != self._environment:
            _set_environment(environment)
            store.let_go()
            self._master = None
            self._environment, self._encoded = environment, dict(os.environb)
        os.environ[RUN_MARK] = start.run
        inherited = {**self._encoded, os.fsencode(RUN_MARK): os.fsencode(start.run)}
        launch = _ForkedLaunch(spec, self._library, self._reached(spec), self._wake, start.cwd, inherited)
        try:
            for number in _ASKING:
                signal.signal(number, launch.on_signal)
            poll = select.poll()
            poll.register(self._worker, select.POLLIN)
            # A signal that came before the handlers were set was preceded by this request.
            if poll.poll(0):
                launch.on_signal(signal.SIGTERM, None)
            code = main.attempt(launch)
        finally:
            signal.signal(signal.SIGTERM, lambda *_: None)
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            launch.close()
            os.dup2(self._null, 1)
            os.dup2(self._null, 2)
        return code, launch.is_done and launch.is_clean and not launch.asked()

    def _reached(self, spec: dict[str, Any]) -> store.StoreConnection:
        route = (*spec["master"], *(os.environ.get(name) for name in _ROUTE))
        if self._master is None or route != self._route:
            self._master, self._route = store.StoreConnection(*spec["master"]), route
        return self._master


def hand_in_for(start: StartRequest, environment: Mapping[str, str], launcher: int) -> None:
    """Hand in the final record of a job whose launcher was killed, when no process of its run is left."""
    _set_environment(environment)
    lost_launcher.hand_in_for(eval(start.spec, {"__builtins__": {}}), launcher)


def _set_environment(environment: Mapping[str, str]) -> None:
    if _LOCALE is not None:
        environment = {"LC_CTYPE": _LOCALE, **environment}
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _compiled(argv: list[bytes], env: Mapping[bytes, bytes], place: jobdir.JobDir) -> list[bytes]:
    """The command for a compiled script, if it compiles without warnings: in a new Python the first ``compile`` takes a
    millisecond. Otherwise the job's own Python compiles the script, and reports warnings and errors.
    """
    if argv[:4] != _SAME_PYTHON or b"PYTHONOPTIMIZE" in env:
        return argv
    path = place.path("script.code")
    try:
        with open(place.script, "rb") as file:
            source = file.read(_SOURCE + 1)
        if len(source) > _SOURCE:
            return argv
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            code = compile(source, os.fsdecode(place.script), "exec", dont_inherit=True)
        with open(path, "wb") as file:
            marshal.dump(code, file)
    except Exception:  # noqa: BLE001 - the job's own Python is to say it
        return argv
    return [*_COMPILED, os.fsencode(path), *argv[4:]]


class _ForkedLaunch(main.Launch):
    """The launcher's half, for a launcher that is its own guard."""

    def __init__(
        self,
        spec: dict[str, Any],
        library: str,
        master: store.StoreConnection,
        wake: int,
        cwd: str,
        inherited: dict[bytes, bytes],
    ) -> None:
        super().__init__(spec, library, "", None, master)
        self._wake, self._cwd, self._from_worker = wake, cwd, inherited
        self._warden: _ForkedWarden | None = None

    @property
    def is_clean(self) -> bool:
        """Whether its guard left nothing alive."""
        return self._warden is not None and self._warden.is_clean

    def on_signal(self, number: int, frame: object) -> None:
        self._on_signal(number, frame)

    def close(self) -> None:
        """Close the guard's half. No thread or signal handler uses it any more."""
        if self._warden is not None:
            self._warden.close()

    def _inherited(self) -> dict[bytes, bytes]:
        return self._from_worker

    def _handle_signals(self) -> None:
        pass  # they are handled already

    def _start(self, record: Record, place: jobdir.JobDir) -> guard.Guard:
        self._warden = _ForkedWarden(
            self._wake, self._steps(place, record), place, self._cwd, self.spec["cancel_grace"]
        )
        self._warden.begin()
        return self._warden  # type: ignore[return-value]

    def _program(self, argv: list[bytes], env: dict[bytes, bytes], place: jobdir.JobDir) -> list[bytes]:
        return _compiled(argv, env, place)

    def _accompany(self, shipper: Shipper) -> None:
        assert self._warden is not None
        if self.master.trusted and self.spool is None:
            self._warden.later = shipper.start  # nothing is due before that
        else:
            shipper.start()


class _ForkedWarden(guard.Warden):
    """The guard's half. The launcher uses it like a guard process."""

    def __init__(
        self, wake: int, steps: Iterator[guard.Step], place: jobdir.JobDir, cwd: str, grace: float
    ) -> None:
        self._control = os.pipe()
        super().__init__(steps, os.pipe(), self._control[0], -1, place.root, [], place.cwd)
        self.wake, self.grace, self._own_cwd = (wake, -1), grace, cwd
        self.later: Callable[[], None] | None = None
        self.is_clean = False
        self._keep: Callable[[bytes], None] = lambda _: None
        self._due = time.monotonic() + limits.FLUSH_EVERY
        self._told: list[str] = []

    def begin(self) -> None:
        """Start the first program. Why that failed is in the report."""
        self._go_on()

    def _start(self, argv: list[bytes], env: dict[bytes, bytes]) -> None:
        actions = [(os.POSIX_SPAWN_DUP2, self.output, 1), (os.POSIX_SPAWN_DUP2, self.output, 2)]
        try:
            if self.cwd is not None:
                os.chdir(self.cwd)
            self.user = processes.patiently(
                lambda: os.posix_spawn(
                    argv[0], argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=SIGNALS
                )
            )
            self._report(f"S {self.user}\n")
        except OSError as exc:
            self._report(f"F {exc.errno or 0} {exc}\n")
            self.ended = 127 << 8
        finally:
            os.chdir(self._own_cwd)

    def tell(self, word: bytes) -> None:
        """See ``guard.Guard``."""
        os.write(self._control[1], word)

    def pump(self, keep: Callable[[bytes], None]) -> tuple[str, int]:
        """See ``guard.Guard``."""
        self._keep = keep
        self.poll.register(self.last_output, select.POLLIN)
        self._wait()
        self.is_clean = processes.kill_children(limits.KILL_PATIENCE, self._reaped, self.user)
        guard.drain(self.last_output, keep)
        self._report(f"X {self.ended or 0} {self.cause} {self.is_clean:d}\n")
        return "".join(self._told), 0

    def close(self) -> None:
        for descriptor in (self.last_output, *self._control, *(() if self.is_last else (self.output,))):
            os.close(descriptor)

    def _heard(self, data: bytes) -> None:
        self._keep(data)

    def _report(self, line: str) -> None:
        self._told.append(line)

    def _is_over(self) -> bool:
        if self.later is not None and time.monotonic() >= self._due:
            self.later()
            self.later = None
        return super()._is_over()

    def _patience(self) -> float | None:
        patience = super()._patience()
        if self.later is None:
            return patience
        until = max(self._due - time.monotonic(), 0.0) * 1000
        return until if patience is None else min(patience, until)
