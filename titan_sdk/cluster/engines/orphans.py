"""Runs whose keeper serves an earlier master, or is gone: what became of them is read from the file of exits."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from titan_sdk.cluster.engines import processes

__all__ = ["FOREIGN", "NEVER_BEGAN", "follow", "mark_of", "read_exits", "settle"]

NEVER_BEGAN = "never began"
FOREIGN = "foreign"
"""The word about a run that is another master's."""
_STEP = 0.005
_SETTLE_SECONDS = 10.0


def mark_of(run: str) -> bytes:
    """What every process of a run has in its environment."""
    return f"TITAN_RUN={run}".encode()


def read_exits(path: Path) -> dict[str, str]:
    """The last word about every run, and about keepers; a line that is not complete is no word."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        return {}
    return dict(line.split(" ", 1) for line in lines if " " in line)


async def follow(
    own: Path, run: str, handle: str, found: Callable[[int, int, bool], None], *, shared: bool
) -> str | None:
    """The run's exit code once it is over, ``NEVER_BEGAN``, ``FOREIGN``, or ``None`` if nobody knows.

    Args:
        own, shared: see ``processes.exits_of``.
        found: told the process number of a live run, a pidfd that is open until this returns, and whether it was asked
            to end.
    """
    keeper, _, boot = processes.parse_handle(handle)
    exits, foreign = processes.exits_of(handle, own, shared=shared)
    if foreign:
        words = (read_exits(path).get(run, "") for path in (own, exits))
        return next((word for word in words if word.isdigit()), FOREIGN)
    # These two waits are for moments: a keeper that has lost its master carries out what it was sent, and then
    # says so; and it writes a status at once when a process has ended.
    while (word := _word(exits, run, handle)) is None:  # noqa: ASYNC110 - another process writes the file
        await asyncio.sleep(_STEP)
    if word == NEVER_BEGAN:
        return word if boot == processes.boot_id() else None
    pid = _pid(word)
    if pid is None:
        return word
    if not pid:
        # The keeper died between starting it and noting its number.
        await asyncio.to_thread(processes.end_marked, mark_of(run))
    with ExitStack() as held:
        while pid and boot == processes.boot_id():
            pidfd = processes.open_live(pid, mark_of(run))
            if pidfd is not None:
                held.callback(os.close, pidfd)
                found(pid, pidfd, f"stop:{run}" in read_exits(exits))
                await _readable(pidfd)
            # On its way out a process has lost its mark and is no zombie yet. As long as it is the keeper's child, the
            # keeper has a status to write, and writes it before it lets go of the child; so the child is asked for first.
            kept = processes.is_child_of(pid, keeper)
            if not kept or _pid(read_exits(exits).get(run, "")) is None:
                break
            await asyncio.sleep(_STEP)
    last = read_exits(exits).get(run)
    return None if last is None or _pid(last) is not None else last


def settle(exits: Path, run: str, handle: str) -> int | None:
    """The process number of a run that began; returns when it will not begin any more. Blocks for a moment."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while (word := _word(exits, run, handle)) is None and time.monotonic() < deadline:
        time.sleep(_STEP)
    return None if word is None else _pid(word)


def _word(exits: Path, run: str, handle: str) -> str | None:
    """The last word about a run; ``None`` while its keeper may be about to start it."""
    alive = processes.keeper_alive(handle)  # asked first: what it wrote before it died counts
    words = read_exits(exits)
    word = words.get(run)
    if word is not None and (word != "@0" or not alive):
        return word
    _, name, _ = processes.parse_handle(handle)
    return NEVER_BEGAN if word is None and (not alive or name in words) else None


def _pid(word: str) -> int | None:
    """The number in the word about a process that was started."""
    return int(word[1:]) if word.startswith("@") and word[1:].isdigit() else None


async def _readable(pidfd: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
