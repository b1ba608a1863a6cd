"""Every time and size limit of the runtime, with its reason. Seconds and bytes."""

from __future__ import annotations

import os


def _number(name: str, default: float) -> float:
    """A limit that the worker's environment may change."""
    try:
        return float(os.environ.get(name, default))
    except ValueError:
        return default


CONNECT_TIMEOUT = 5.0
REPLY_TIMEOUT = 20.0

START_PATIENCE = _number("TITAN_RUNTIME_START_PATIENCE", 10.0)
"""How long a job that has not started tries to reach the master. This is enough for a restart, not for an outage."""

END_PATIENCE = _number("TITAN_RUNTIME_END_PATIENCE", 120.0)
"""How long a finished job tries to store its record. It is longer, because the work would be lost."""

AWAY_PATIENCE = _number("TITAN_RUNTIME_AWAY_PATIENCE", 0.0)
"""How long a launcher waits for an unreachable master, in place of the two limits above. A bundled master sets it for the
jobs of its own machine, which the next master takes over."""

LEASE = _number("TITAN_RUNTIME_LEASE", 20.0)
"""An attempt whose record does not change for this long, while the store can be read, counts as dead.

Four missed heartbeats. Two copies can run at once only if one of them could not reach the store for longer
than this and the other could; the first then ends itself at its next heartbeat.
"""

HEARTBEAT = _number("TITAN_RUNTIME_HEARTBEAT", 5.0)
GRACE = _number("TITAN_RUNTIME_GRACE", 5.0)
"""The default time between SIGTERM and SIGKILL of a stopped job (cancel_grace)."""

LAST_WORDS = 4.0
"""The time for the record and the last output of a stopped job. A bundled master kills the launcher 5 s after the grace."""

LOOK_EVERY = 0.05
"""How often the guard looks for processes of a stopped job: no signal reports a process that loses its parent."""

BUILD_PATIENCE = _number("TITAN_RUNTIME_BUILD_PATIENCE", 1800.0)
"""How long a job may wait for its environment, or build it; its own timeout begins afterwards."""

ENVIRONMENTS_SIZE = _number("TITAN_RUNTIME_ENVIRONMENTS_SIZE", 20 * 1024**3)
ENVIRONMENTS_AGE = _number("TITAN_RUNTIME_ENVIRONMENTS_AGE", 30 * 86400.0)
"""The limits of environments on a worker that no job uses: their bytes, and the seconds since the last use."""

FORK_PATIENCE = 45.0
"""How long a job that has not started waits while the machine has too many processes. With a longer silence it would count
as lost."""

KILL_PATIENCE = 15.0
"""How long descendants are killed again. A process that the kernel cannot end must not hold the slot for ever."""

FLUSH_EVERY = 0.5
CHUNK = 256 * 1024
LINE = 64 * 1024
"""The largest unfinished line. A longer one is shipped in pieces."""

LOG_LIMIT = _number("TITAN_RUNTIME_LOG_LIMIT", 64 * 1024 * 1024)
"""The bytes of output that are kept of an attempt, from its beginning; 0 keeps all. A real master cannot delete them. A
bundled master sets this limit for its workers."""

SPOOL_MEMORY = 8 * 1024 * 1024
"""The unshipped output in memory. More of it goes to a file."""

RESULT_SLICE = 4 * 1024 * 1024
"""The size of a slice. JSON's escapes at most double it, so it stays under Titan's packet limit of 10 MiB."""

RESULT_INLINE = 64 * 1024
"""The largest result that travels in the record itself, on a trusted master."""

RESULT_LIMIT = 64 * 1024 * 1024

RESULT_CHECKED = 8 * 1024 * 1024
"""The largest result that the launcher parses: as Python values it may take ten times its size."""

PROJECT_SIZE = 1024 * 1024 * 1024
PROJECT_FILES = 20_000
"""The largest unpacked size of a project. A real master takes zips of up to 7.8 MB."""

PROJECT_WHOLE = 4 * 1024 * 1024
"""A larger project's zip is fetched in pieces, from a master that supports this."""

PIECE = 4 * 1024 * 1024
"""Bytes of a file in memory. A bundled master transfers files in such pieces."""

PART = 7 * 1024 * 1024
"""The largest file, in bytes, that fits into one packet of a real master: 10 MiB, in Base64."""

STATE = 64 * 1024
"""The largest state mapping of a job, in bytes. Each change writes the whole mapping."""

OUTPUT_FILES = 1000
"""The number of output files of a job. The job's record lists them, and is one value in the store."""

FILES_LIMIT = int(_number("TITAN_RUNTIME_FILES_LIMIT", 10 * 1024 * 1024 * 1024))
"""Bytes of fetched inputs that a worker keeps for later jobs; 0 keeps none. A file of more than half of it is not kept."""

LEFT_PART = 86400.0
"""Seconds without a write after which an unfinished download counts as the remains of a killed job."""

OUTPUT_LOST = "\n[titan-runtime: %d bytes of output lost, the disk is full]\n"

TEE = 4 * 1024 * 1024
"""The output that is passed on to the worker. The worker's report carries it in one packet of 10 MiB; with a larger one a
real master never learns of the job's end. TitanStore gets all output."""

EXCEPTION_TEXT = 64 * 1024
