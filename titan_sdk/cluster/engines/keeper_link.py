"""The master's end of a keeper: starts the process, sends it commands, hears what became of the jobs."""

from __future__ import annotations

import asyncio
import marshal
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from titan_sdk.cluster.engines import processes
from titan_sdk.cluster.engines.keeper_fork import MARK_ROOM

__all__ = ["Keeper", "Kind", "Launch"]

_PROGRAM = str(Path(__file__).with_name("keeper_start.py"))
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_STOP_SECONDS = 10.0


class Kind(Enum):
    """What a keeper starts; the value is the options of its own Python, which a fork keeps."""

    COLD = ("-I", "-S", "-u")
    """Any program."""
    SCRIPTS = ("-u",)
    """Python scripts, as forks."""
    LAUNCHERS = ("-EsS",)
    """Launchers of jobs with the runtime, as forks."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One program to start. ``more`` comes on top of the environment of the worker."""

    run: str
    worker: str
    argv: tuple[str, ...]
    cwd: str
    log: str
    more: Mapping[str, str]
    kind: Kind = Kind.COLD
    rest: float = 0.0
    """Seconds in which what is left of it ends by itself once its first process was killed."""


class Keeper:
    """Belongs to the loop's thread.

    Args:
        environment: the process's own; a fork server's children inherit it.
        kind: what it starts.
        heard: called with a run and the word about it: an exit code, or ``!``, an error number and why it could not be started.
        lost: called if the process is gone though nobody stopped it.
    """

    def __init__(
        self,
        exits: Path,
        environment: Mapping[str, str],
        kind: Kind,
        *,
        heard: Callable[[str, str], None],
        lost: Callable[[Keeper], None],
    ) -> None:
        self._heard, self._lost = heard, lost
        self.launched = 0
        self._loop = asyncio.get_running_loop()
        self._known: set[str] = set()
        self._unsent = bytearray()
        self._partial = b""
        self._stopping = False
        self._name = f"keeper-{secrets.token_hex(8)}"
        self._process, self._commands, self._reports = _start(exits, environment, self._name, kind)
        self.handle = processes.keeper_handle(self._process.pid, self._name, exits)
        self._loop.add_reader(self._reports, self._on_reports)

    # ------------------------------------------------------------------ commands

    def launch(self, launch: Launch, environment: Mapping[str, str]) -> None:
        """Start a program."""
        if launch.worker not in self._known:
            self._known.add(launch.worker)
            self._send("environment", launch.worker, _encoded(environment))
        self.launched += 1
        more = _encoded(launch.more)
        child = (launch.run, more, launch.argv, launch.cwd, launch.log)
        self._send("launch", launch.kind is not Kind.COLD, launch.worker, launch.rest, child)

    def stop_run(self, run: str, grace: float) -> None:
        """SIGTERM to the run's process group, and SIGKILL to all that is left of it after so many seconds."""
        self._send("stop", run, grace)

    def _send(self, *command: Any) -> None:
        data = marshal.dumps(command)
        data = len(data).to_bytes(4, "big") + data
        if not self._unsent:
            data = data[self._write(data) :]
            if data:
                self._loop.add_writer(self._commands, self._send_more)
        self._unsent += data

    def _send_more(self) -> None:
        del self._unsent[: self._write(self._unsent)]
        if not self._unsent:
            self._loop.remove_writer(self._commands)

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._commands, data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # it is gone; its reports end, and that is dealt with

    # ------------------------------------------------------------------ reports

    def _on_reports(self) -> None:
        try:
            data = os.read(self._reports, 65536)
        except BlockingIOError:
            return
        if not data:
            self._close()
            if not self._stopping:
                self._lost(self)
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            run, _, word = line.decode("utf-8", "replace").partition(" ")
            self._heard(run, word)

    def _close(self) -> None:
        if self._hang_up():
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()  # somebody has stopped it
                self._process.wait()

    def _hang_up(self) -> bool:
        if self._commands < 0:
            return False
        self._loop.remove_reader(self._reports)
        self._loop.remove_writer(self._commands)
        os.close(self._reports)
        os.close(self._commands)
        self._commands = -1
        return True

    def abandon(self) -> None:
        """Leave it to itself: it ends after its last job."""
        self._stopping = True
        self._hang_up()
        # It is not waited for; that is no oversight, whatever ``Popen`` thinks when it is collected.
        self._process.returncode = 0

    def stop(self) -> None:
        """No job of it is left: end it. May block for the moment that takes."""
        self._stopping = True
        self._close()


def _start(
    exits: Path, environment: Mapping[str, str], name: str, kind: Kind
) -> tuple[subprocess.Popen[bytes], int, int]:
    command_end, commands = os.pipe()
    reports, report_end = os.pipe()
    written = os.open(exits, _LOG_FLAGS | os.O_CLOEXEC, 0o600)
    own = dict(environment)
    if kind is not Kind.COLD:
        own["TITAN_RUN"] = "_" * MARK_ROOM
    ends = (command_end, report_end, written)
    try:
        process = subprocess.Popen(
            [_python(kind), *kind.value, _PROGRAM, *map(str, ends), name, kind.name],
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=ends,
            start_new_session=True,
        )
    except BaseException:
        os.close(commands)
        os.close(reports)
        raise
    finally:
        for end in ends:
            os.close(end)
    os.set_blocking(commands, False)
    os.set_blocking(reports, False)
    return process, commands, reports


def _python(kind: Kind) -> str:
    """Under the name by which a shell would have found it, which a job can ask for."""
    return str(Path(sys.executable).with_name("python3")) if kind is Kind.LAUNCHERS else sys.executable


def _encoded(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
