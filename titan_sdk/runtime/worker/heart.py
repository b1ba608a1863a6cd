"""Saying that an attempt is alive, and hearing that it should not be."""

from __future__ import annotations

import time

from . import keys, limits, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .record import Record

OVERTAKEN, CANCELLED = "overtaken", "cancelled"


class Heart:
    """Writes the record again, for one thread at a time."""

    def __init__(self, master: store.StoreConnection, record: Record) -> None:
        self._master, self._record = master, record
        self._cancel_key = keys.cancel_key(record.full_id, record.nonce)
        self.due_at = time.monotonic() + limits.HEARTBEAT

    def beat(self, first: bool = False) -> str:
        """What was heard: nothing, or that another copy has taken over, or that somebody has cancelled the job."""
        self.due_at = time.monotonic() + limits.HEARTBEAT
        try:
            if self._master.trusted:
                # It ends what it calls cancelled by itself.
                self._record.save(self._master)
                return ""
            if not first:
                seen = self._master.get(self._record.key)
                if seen is not None and not self._record.is_ours(seen):
                    return OVERTAKEN
            self._master.set(self._record.key, self._record.text())
            # A real worker loses a cancel that comes while it is starting the job: the kill finds no process. And a
            # master that has lost track of the job passes none on.
            if self._master.cancelled(self._record.full_id) or self._is_marked():
                return CANCELLED
        except store.Contended:
            return OVERTAKEN
        except store.StoreError:
            # The next heartbeat tries again; the final record is what must arrive.
            pass
        return ""

    def _is_marked(self) -> bool:
        return self._master.get(self._cancel_key) is not None
