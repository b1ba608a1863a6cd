"""Runs of the version without worker processes. Its keeper processes stored ends in a file, and may still live."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from titan_sdk.cluster.engines.base import Process
from titan_sdk.cluster.store.rows import JobRow
from titan_sdk.cluster.worker.client import EndKind, RunEnd
from titan_sdk.cluster.worker.local_workers import boot_id
from titan_sdk.errors import TitanError

__all__ = ["end_of", "refuse_live"]


def refuse_live(rows: Iterable[JobRow], root: Path) -> None:
    """Refuse to start while a keeper lives, because this version cannot control it.

    Raises:
        TitanError: a keeper lives.
    """
    jobs = sorted(row.job_id for row in rows if row.handle is not None and _lives(row.handle))
    if jobs:
        raise TitanError(
            f"{', '.join(jobs)} still run in {root} under an earlier version of this program, and this one cannot take "
            "them over: start that version once more on the folder, let them end there or stop it, which queues them again, "
            "and then start this one"
        )


def end_of(root: Path, process: Process) -> RunEnd:
    """The end that the run's keeper, which is gone, has stored."""
    try:
        lines = (root / "exits.log").read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        lines = []
    words = dict(line.split(" ", 1) for line in lines if " " in line)
    word = words.get(process.run)
    if word is not None and word.isdigit():
        return RunEnd(EndKind.ENDED, int(word))
    _, name, boot = _parts(process.handle)
    never = word == "never began" or (word is None and name in words)
    return RunEnd(EndKind.UNKNOWN if never and boot == boot_id() else EndKind.LOST)


def _lives(handle: str) -> bool:
    pid, name, boot = _parts(handle)
    if boot != boot_id() or not pid.isdigit():
        return False
    try:
        return name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _parts(handle: str) -> tuple[str, str, str]:
    """The pid, name and boot of a handle."""
    pid, name, boot, *_ = [*handle.split(":", 3), "", "", ""]
    return pid, name, boot
