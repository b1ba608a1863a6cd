"""Starting and finding a strict worker's processes. Nothing is added to their environment but a ``python``."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = [
    "close_pipes",
    "descendants",
    "kill",
    "kill_all",
    "output_lines",
    "start",
    "worker_environment",
]


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a worker inherits, and every job from it: no job id, no address of the master (section 5.1).

    ``TITAN_*`` of this program are a client's settings, which no worker would have; ``TITAN_RUNTIME_*`` are
    settings of the runtime on a worker. ``python`` is this interpreter.
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith("TITAN_") or name.startswith("TITAN_RUNTIME_")
    }
    here = str(Path(sys.executable).parent)
    inherited["PATH"] = here + os.pathsep + inherited.get("PATH", os.defpath)
    return inherited


def start(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process with both outputs in one pipe; its input is a pipe that stays open and empty.

    Raises:
        OSError: it cannot be started.
    """
    try:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a real worker does not; it lets this program's Ctrl-C and cleanup work
        )
    except ValueError as exc:  # a NUL in an argument
        raise OSError(str(exc)) from exc


def output_lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Lines as a Java reader cuts them: a carriage return ends one too; malformed UTF-8 becomes U+FFFD."""
    assert process.stdout is not None
    with io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            yield line.removesuffix("\n")


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Give the pipes back once nobody reads them."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def descendants(pid: int) -> list[int]:
    """Every process below one, by the parents they have now."""
    children: dict[int, list[int]] = {}
    for other, fields in _processes():
        children.setdefault(int(fields[1]), []).append(other)
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def kill_all(sessions: set[int], folder: Path) -> None:
    """SIGKILL to everything in these sessions and to everything that works below the folder."""
    for pid, fields in _processes():
        if int(fields[3]) in sessions or _works_below(pid, folder):
            kill(pid)


def kill(pid: int) -> None:
    """SIGKILL, unless it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _works_below(pid: int, folder: Path) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(folder)
    except OSError:
        return False


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Number, and state, parent, group, session and so on, of every process."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", encoding="utf-8") as stat:
                yield int(entry), stat.read().rpartition(")")[2].split()
