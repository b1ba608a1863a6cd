"""What a fork of the worker process does to become a job. Nothing here returns."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn

from titan_sdk.cluster.worker import guard
from titan_sdk.cluster.worker.protocol import NOT_STARTED, RUN_MARK, Start, name_of
from titan_sdk.runtime.worker import main as launcher
from titan_sdk.runtime.worker import processes
from titan_sdk.runtime.worker.natives import signal

__all__ = ["HELD_BACK", "Inherited", "become_guard", "become_launcher"]

HELD_BACK = (signal.SIGTERM, signal.SIGCHLD)
"""Signals that are blocked when the fork is made."""


class Inherited:
    """What a child needs of the worker process.

    Args:
        closes: descriptors that are the process's alone.
        failures: where a child says why it became no job.
        library: what the launcher calls its bundle: the folder in which its jobs find their modules.
    """

    def __init__(self, closes: list[int], failures: int, library: str) -> None:
        self.closes, self.failures, self.library = closes, failures, library
        self.worker = os.getpid()


def become_guard(start: Start, environment: dict[str, str], inherited: Inherited, worker: int) -> NoReturn:
    """The guard of this program and of later ones, in a fork that has just been made."""
    try:
        _leave_worker(inherited)
        os.close(inherited.failures)
        guard.serve(worker, start, environment)
    except BaseException as exc:  # noqa: BLE001 - two processes must not both go on from here
        os.write(worker, guard.failure(exc))
    finally:
        os._exit(NOT_STARTED)


def become_launcher(start: Start, environment: dict[str, str], inherited: Inherited) -> NoReturn:
    """The job, in a fork that has just been made."""
    try:
        _leave_worker(inherited)
        comm = os.open("/proc/self/comm", os.O_WRONLY)
        os.write(comm, name_of(start.run).encode())
        os.close(comm)
        os.chdir(start.cwd)
        log = os.open(start.log, guard.LOG_FLAGS, 0o600)
        _become_launcher(start, {**environment, RUN_MARK: start.run}, log, inherited)
    except BaseException as exc:  # noqa: BLE001 - two processes must not both go on from here
        _tell(inherited.failures, start.run, exc)
    finally:
        os._exit(NOT_STARTED)


def _leave_worker(inherited: Inherited) -> None:
    signal.set_wakeup_fd(-1)
    for descriptor in inherited.closes:
        os.close(descriptor)
    os.setsid()


def _become_launcher(start: Start, environment: dict[str, str], log: int, inherited: Inherited) -> None:
    """As the job's script would by starting Python on it: of that, what a launcher or its job can notice is done here."""
    spec: dict[str, Any] = eval(start.spec, {"__builtins__": {}})
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    if "LC_CTYPE" in os.environ:
        # In the C locale a Python sets this for itself, and so for what it starts.
        environment = {"LC_CTYPE": os.environ["LC_CTYPE"], **environment}
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    sys.argv[:] = [start.job]
    # When the worker process is gone the launcher stops its job as it does when it is asked to.
    processes.die_with_parent(inherited.worker, signal.SIGTERM)
    os.close(inherited.failures)
    launcher.main(spec, inherited.library, "", None)


def _tell(failures: int, run: str, exc: BaseException) -> None:
    words = str(exc) or type(exc).__name__
    message = {"run": run, "errno": getattr(exc, "errno", None) or 0, "why": words[:500]}
    try:
        os.write(failures, json.dumps(message).encode("ascii") + b"\n")
    except OSError:
        pass  # the worker process is gone
