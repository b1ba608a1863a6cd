"""How far Airflow has come with the lines that triggers write.

A trigger's line is not in the task log when it is written. It goes through a socket, of which the triggerer's main process
reads 4 KiB per turn of its loop; at ten lines a second, a busy triggerer is seconds behind. What it has not read is lost
when it is killed, and belongs to no task any more once the trigger has ended. So nothing counts as copied, and no trigger
ends, before the socket is empty.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import weakref

from titan_provider.triggers.base import log_channel

__all__ = ["lines_passed_on"]

_LOOK = 0.05
LONGEST = 60.0
"""Seconds. A triggerer that is further behind loses lines whatever a trigger does."""

_waits: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = weakref.WeakKeyDictionary()


async def lines_passed_on(seconds: float = LONGEST) -> bool:
    """Return once all lines written so far are in the task logs, or time is up; True where they are."""
    if not unread():
        return True
    loop = asyncio.get_running_loop()
    wait = _waits.get(loop)
    if (
        wait is None or wait.done()
    ):  # thousands of triggers look at one socket, so one of them does it for all
        wait = _waits[loop] = asyncio.create_task(_until_read())
    # Not asyncio.timeout: see pauses.py.
    done, _ = await asyncio.wait([wait], timeout=seconds)
    return bool(done)


async def _until_read() -> None:
    empty = 0
    while empty < 2:  # the second time, what was read last has been written
        await asyncio.sleep(_LOOK)
        empty = 0 if unread() else empty + 1


def unread() -> int:
    """Bytes that Airflow has not read yet; 0 where the system does not tell."""
    channel = log_channel()
    if channel is None or not sys.platform.startswith("linux"):
        return 0
    from fcntl import ioctl
    from termios import TIOCOUTQ

    try:
        (count,) = struct.unpack("i", ioctl(channel, TIOCOUTQ, bytes(4)))
    except OSError:  # the socket is closed: nobody reads any more
        return 0
    return int(count)
