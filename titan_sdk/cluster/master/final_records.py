"""The final records of runs. A launcher writes its last record to a file, and the master stores it with the job's end.

The file replaces a request: that saves one transaction, and a job that ends while no master is there need not wait for
one. A Ray node sends the record with the run's end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from titan_sdk.cluster import sdk_keys
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import StoreFailed, Swap
from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.extensions import StoreSwap

__all__ = ["FinalRecord", "FinalRecords", "is_failed_for_good", "read_final_record"]


@dataclass(frozen=True, slots=True)
class FinalRecord:
    """The last record of a run."""

    change: Swap
    is_failed_for_good: bool
    """Whether the job's own ``max_attempts`` rules out another run."""


class FinalRecords:
    """The files of final records, named by their runs.

    Args:
        folder: created if it is missing. None: there are no files, because runs end on other machines.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(mode=0o700, exist_ok=True)

    def read(self, run: str) -> FinalRecord | None:
        """The run's final record, or ``None``."""
        if self._folder is None:
            return None
        try:
            return read_final_record((self._folder / run).read_text("ascii"))
        except (OSError, UnicodeError):
            return None

    def forget(self, run: str) -> None:
        """Remove the record: it is stored."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._folder / run)

    def keep_only(self, runs: Collection[str]) -> None:
        """Remove all other records: those that an earlier master has stored, and unfinished ones."""
        if self._folder is None:
            return
        for name in os.listdir(self._folder):
            if name not in runs:
                self.forget(name)


def read_final_record(text: str) -> FinalRecord | None:
    """The final record of a file's text; ``None`` if a launcher did not write it."""
    try:
        left = StoreSwap.decode(text)
    except PeerProtocolError:
        return None
    if left.value is None or not f"{left.key}{left.expected}{left.value}".isascii():
        return None  # not a launcher's. A change that cannot be stored would block every later one
    return FinalRecord(Swap(left.key, left.expected, left.value), sdk_keys.is_failed_for_good(left.value))


async def is_failed_for_good(store: Store, job_id: str) -> bool:
    """Whether the stored record of the job's latest submission says that ``max_attempts`` rules out another run."""
    try:
        nonce = sdk_keys.nonce_of(await store.get(sdk_keys.record_key(job_id)))
        return nonce is not None and sdk_keys.is_failed_for_good(
            await store.get(sdk_keys.run_key(job_id, nonce))
        )
    except StoreFailed:
        return False  # the launcher checks the record too, before it starts the job
