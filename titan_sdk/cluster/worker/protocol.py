"""The protocol of a worker process: JSON, one object per line, over a Unix socket.

| request | fields | answer |
|---|---|---|
| ``hello`` | ``version`` | ``worker``: ``version``, ``pid``, ``mark``, ``runs`` (run, job, ended, code, stopping) |
| ``environment`` | ``name``, ``values`` | none; ``start`` refers to it |
| ``start`` | those of ``StartRequest`` | ``ended`` or ``failed``, once |
| ``follow`` | ``run`` | ``ended``, once; or ``unknown`` at once, and the run will never begin |
| ``stop`` | ``run``, ``now`` | none; ``ended`` when no process is left. SIGTERM, and SIGKILL after the grace, or ``now`` |
| ``forget`` | ``run`` | none; the end is stored elsewhere |

``ended`` has ``run`` and ``code`` (128 + n for signal n). ``failed`` has ``run``, ``errno`` and ``why``: nothing was started,
and ``start`` may be sent again. The connection with the last ``start`` or ``follow`` of a run gets its end. When that
connection closes, the run goes on, unless it is ``held``. An end without a connection is stored in the file ``ENDED``/run,
with the code, before the process ends. A process that exits in order writes ``ENDED``/its own name: it had no other run.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any, NamedTuple

from titan_sdk.runtime.worker.c_modules import sha256, signal

__all__ = [
    "ENDED",
    "IDLE",
    "LOG_FLAGS",
    "MARK",
    "RUN_MARK",
    "SIGNALS",
    "STOP",
    "VERSION",
    "StartRequest",
    "decode",
    "encode",
    "ended_code",
    "name_of",
    "remove_ended",
    "write_ended",
]

VERSION = 1
"""Changes if a later master can no longer list, follow and stop the runs of an earlier worker process."""
MARK = "TITAN_WORKER_PROCESS"
"""The variable with the worker process's name, in its own environment, in its forks', and in every job's."""
RUN_MARK = "TITAN_RUN"
"""The variable with the run's name, in the environment of its programs."""
ENDED = "ended"
"""The folder of unreported ends, in the state folder."""
STOP = b"stop"
"""The stop request to a guard."""
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGTERM)
"""The signals with a handler in the guard. Programs get the default handlers."""


class StartRequest(NamedTuple):
    """One run to start."""

    run: str
    job: str
    """The job's id, for lists of runs."""
    argv: list[str]
    """The command; empty if ``spec`` is given."""
    cwd: str
    log: str
    """The file to which stdout and stderr are appended."""
    environment: str
    """The name of an environment that was sent before, on the same connection."""
    grace: float = 5.0
    """Seconds between SIGTERM and SIGKILL when the run is stopped, or the worker process is killed."""
    rest: float = 0.0
    """Seconds for the other processes to end after the first one was killed: the runtime's guard ends them itself."""
    spec: str = ""
    """The spec for the loaded launcher, from the job's script: a Python literal."""
    held: bool = False
    """Whether the run is killed when the connection that started it closes."""


IDLE = "titan-waits"
"""The process name of an idle guard."""


def name_of(run: str) -> str:
    """The process name of a run's launcher and guards. The kernel keeps at most 15 characters.

    These forks have the worker process's environment, which does not contain the run's name.
    """
    digest: str = sha256(run.encode()).hexdigest()
    return "titan-" + digest[:9]


def encode(**message: Any) -> bytes:
    """A message as one line. ``start`` may be a ``StartRequest``."""
    start = message.pop("start", None)
    if start is not None:
        message = {"do": "start", **start._asdict()}
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message of a line.

    Raises:
        ValueError: the line is no message.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"{line[:80]!r} is no message")
    return message


def write_ended(folder: int, name: str, code: int | None) -> None:
    """Store an end, whole or not at all.

    Args:
        folder: a descriptor, which still works after the data directory is renamed.
    """
    part = f".{name}"
    with open(part, "w", encoding="ascii", opener=functools.partial(os.open, dir_fd=folder)) as file:
        json.dump(code, file)
    os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)


def ended_code(folder: str, name: str) -> tuple[bool, int | None]:
    """Whether that end was stored, and its code."""
    try:
        with open(f"{folder}/{name}", encoding="ascii") as file:
            code = json.load(file)
    except (FileNotFoundError, ValueError):
        return False, None
    return True, code if isinstance(code, int) else None


def remove_ended(folder: str, name: str) -> None:
    """Remove an end that is stored elsewhere."""
    try:
        os.unlink(f"{folder}/{name}")
    except FileNotFoundError:
        pass
