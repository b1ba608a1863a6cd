"""The embedded store: one SQLite file, written through the journal, read directly.

Reads see what is durable (or about to be, within the same transaction), never the journal's queue.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from titan_sdk.cluster.store import jobs
from titan_sdk.cluster.store.journal import Journal
from titan_sdk.cluster.store.schema import open_database
from titan_sdk.cluster.store.values import Values

__all__ = ["SqliteStore"]


class SqliteStore(Values):
    """Jobs, and through ``Values`` values and sets. To be used in the thread of the loop it is given.

    Raises:
        TitanError: the file cannot be used; see ``open_database``.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.db = open_database(path)
        self.journal = Journal(self.db, loop)
        super().__init__(self.db, self.journal)
        self._next_seq = jobs.last_seq(self.db) + 1

    def next_seq(self) -> int:
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def close(self) -> None:
        """Store what is pending and close the file."""
        self.journal.flush()
        self.db.close()
