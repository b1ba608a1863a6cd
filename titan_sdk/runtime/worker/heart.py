"""Heartbeats of an attempt. The answer may be that the attempt must stop."""

from __future__ import annotations

import time

from . import keys, limits, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .record import Record

OVERTAKEN, CANCELLED = "overtaken", "cancelled"


class Heart:
    """Sends heartbeats, by writing the record again. For one thread at a time."""

    def __init__(self, master: store.StoreConnection, record: Record) -> None:
        self._master, self._record = master, record
        self._cancel_key = keys.cancel_key(record.full_id, record.nonce)
        self.due_at = time.monotonic() + limits.HEARTBEAT

    def beat(self, first: bool = False) -> str:
        """Send a heartbeat. Returns an empty text, or that another copy has taken over, or that the job is cancelled."""
        self.due_at = time.monotonic() + limits.HEARTBEAT
        try:
            if self._master.trusted:
                # A trusted master ends a cancelled job itself.
                self._record.save(self._master)
                return ""
            if not first:
                seen = self._master.get(self._record.key)
                if seen is not None and not self._record.is_ours(seen):
                    return OVERTAKEN
            self._master.set(self._record.key, self._record.text())
            # A real worker loses a cancel during the start of the job, because there is no process to kill yet. And a
            # real master passes no cancel on for a job that it has lost track of.
            if self._master.cancelled(self._record.full_id) or self._is_marked():
                return CANCELLED
        except store.Contended:
            return OVERTAKEN
        except store.StoreError:
            # The next heartbeat tries again. Only the final record must arrive.
            pass
        return ""

    def _is_marked(self) -> bool:
        return self._master.get(self._cancel_key) is not None
