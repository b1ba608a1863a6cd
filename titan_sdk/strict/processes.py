"""The processes of a strict worker. Only a ``python`` is added to their environment."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from titan_sdk.runtime.worker import processes

__all__ = ["ScriptProcess", "kill_all", "kill_tree", "worker_environment"]

_PIECE = 64 * 1024


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker and its jobs, without a job id or the master's address (section 5.1).

    This program's ``TITAN_*`` are a client's settings, which a worker does not have, so they are removed.
    ``TITAN_RUNTIME_*`` are settings of the runtime on a worker, and stay. ``python`` is this interpreter.
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith("TITAN_") or name.startswith("TITAN_RUNTIME_")
    }
    here = str(Path(sys.executable).parent)
    inherited["PATH"] = here + os.pathsep + inherited.get("PATH", os.defpath)
    return inherited


class ScriptProcess:
    """A process with stdout and stderr in one pipe. Its stdin is a pipe that stays open and empty."""

    def __init__(self, process: asyncio.subprocess.Process, stdin: int) -> None:
        self.pid = process.pid
        self._process = process
        self._stdin = stdin

    @classmethod
    async def start(
        cls, command: Sequence[str], cwd: Path, environment: Mapping[str, str], *, read: bool = True
    ) -> ScriptProcess:
        """Start the process.

        Args:
            read: whether its output is read. If not, its writes fail.

        Raises:
            OSError: it cannot be started.
        """
        stdin, kept = os.pipe()
        unread, output = os.pipe()
        os.close(unread)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=cwd,
                env=environment,
                stdin=stdin,
                stdout=asyncio.subprocess.PIPE if read else output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # a real worker does not; it lets this program's Ctrl-C and cleanup work
            )
        except BaseException as exc:
            os.close(kept)
            if isinstance(exc, ValueError):  # a NUL in an argument
                raise OSError(str(exc)) from exc
            raise
        finally:
            os.close(stdin)
            os.close(output)
        return cls(process, kept)

    async def lines(self) -> AsyncIterator[str]:
        """The lines of its output until the pipe closes, cut as by a Java reader: a carriage return ends a line too, and
        malformed UTF-8 becomes U+FFFD.
        """
        if self._process.stdout is None:
            return
        decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder("utf-8")("replace"), translate=True
        )
        rest: list[str] = []
        while data := await self._process.stdout.read(_PIECE):
            first, *others = decoder.decode(data).split("\n")
            rest.append(first)
            if others:
                yield "".join(rest)
                for line in others[:-1]:
                    yield line
                rest = [others[-1]]
        if last := "".join(rest) + decoder.decode(b"", final=True):
            yield last.removesuffix("\n")

    async def ended(self) -> int:
        """Its exit code (128 + n for signal n), after its lines."""
        code = await self._process.wait()
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        return code if code >= 0 else 128 - code

    def send(self, number: int) -> None:
        """Send a signal to the process only, and not to its children."""
        if self._process.returncode is None:
            # Not by asyncio's own method, which may reap the process too early.
            processes.send(self.pid, number)


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants, by their present parents."""
    children = processes.by_parent()
    found = [pid]
    for one in found:
        found += children.get(one, [])
    for one in found:
        processes.send(one, signal.SIGKILL)


def kill_all(sessions: set[int], folder: Path) -> None:
    """Kill all processes of these sessions, and all with a current folder below this one."""
    for pid in processes.all_pids():
        with contextlib.suppress(OSError):
            below = Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(folder)
            if below or os.getsid(pid) in sessions:
                processes.send(pid, signal.SIGKILL)
