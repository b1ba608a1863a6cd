"""The words between a worker process and those who use it: JSON, one object a line, over a Unix socket.

| request | fields | answer |
|---|---|---|
| ``hello`` | ``version`` | ``worker``: ``version``, ``pid``, ``mark``, ``runs`` (run, job, ended, code, stopping) |
| ``environment`` | ``name``, ``values`` | none; ``start`` refers to it |
| ``start`` | those of ``Start`` | ``ended`` or ``failed``, once |
| ``follow`` | ``run`` | ``ended``, once; ``unknown`` at once, and the run never begins any more |
| ``stop`` | ``run``, ``now`` | none; ``ended`` when nothing of it is left. SIGTERM, and SIGKILL after the grace, or ``now`` |
| ``forget`` | ``run`` | none; the end is stored elsewhere |

``ended`` has ``run`` and ``code`` (128 + n for signal n); ``failed`` has ``run``, ``errno`` and ``why``: nothing was started, and
``start`` may be sent again. The connection that sent the last ``start`` or ``follow`` of a run is told of its end. When it
closes, the run goes on, unless it is ``held``. What nobody was told of is in a file: ``ENDED``/run, with the code, written
before the process ends. A process that ends in order leaves ``ENDED``/its own name: it had started no other run.
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
"""Changes when a later master could not list, follow and stop the runs of an earlier worker process."""
MARK = "TITAN_WORKER_PROCESS"
"""The variable that names the worker process, in its own environment, that of its forks, and that of every job."""
RUN_MARK = "TITAN_RUN"
"""The variable that names the run, in the environment of its programs."""
ENDED = "ended"
"""The folder of ends that nobody was told of, in the state folder."""
STOP = b"stop"
"""The word to a guard."""
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGTERM)
"""Those that mean to a program what they mean by default, and something else to its guard."""


class StartRequest(NamedTuple):
    """One run to start."""

    run: str
    job: str
    """For whoever lists the runs."""
    argv: list[str]
    """Empty where ``spec`` is given."""
    cwd: str
    log: str
    """Standard output and standard error are appended to it."""
    environment: str
    """The name of one that was sent before, on the same connection."""
    grace: float = 5.0
    """Seconds between SIGTERM and SIGKILL when it is stopped, or the worker process is killed."""
    rest: float = 0.0
    """Seconds in which the rest of the run ends by itself when its first process is killed, as a guard is below that."""
    spec: str = ""
    """For the launcher that the process has loaded: what the job's script tells it, a Python literal."""
    held: bool = False
    """Whether the run is killed when the connection that started it closes."""


IDLE = "titan-waits"
"""What a guard is called that has no run."""


def name_of(run: str) -> str:
    """What the forks of a run are called: its launcher, its guards. At most 15 characters, as the kernel keeps them.

    Their environment is the worker process's, so it does not name the run, as that of its programs does.
    """
    digest: str = sha256(run.encode()).hexdigest()
    return "titan-" + digest[:9]


def encode(**message: Any) -> bytes:
    """One line. A ``Start`` may be given as ``start``."""
    start = message.pop("start", None)
    if start is not None:
        message = {"do": "start", **start._asdict()}
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """One message.

    Raises:
        ValueError: the line is none.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"{line[:80]!r} is no message")
    return message


def write_ended(folder: int, name: str, code: int | None) -> None:
    """Keep an end, whole or not at all.

    Args:
        folder: a descriptor: it is the same folder when the data directory has another name by now.
    """
    part = f".{name}"
    with open(part, "w", encoding="ascii", opener=functools.partial(os.open, dir_fd=folder)) as file:
        json.dump(code, file)
    os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)


def ended_code(folder: str, name: str) -> tuple[bool, int | None]:
    """Whether that end was kept, and the code."""
    try:
        with open(f"{folder}/{name}", encoding="ascii") as file:
            code = json.load(file)
    except (FileNotFoundError, ValueError):
        return False, None
    return True, code if isinstance(code, int) else None


def remove_ended(folder: str, name: str) -> None:
    """The end is stored elsewhere."""
    try:
        os.unlink(f"{folder}/{name}")
    except FileNotFoundError:
        pass
