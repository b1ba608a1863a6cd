"""The owner's lease: a job with an owner ends when its owner is gone.

The owner repeatedly writes a new value under the job's lease key. The job ends if the value does not change for the length
of the lease, by this machine's clock, while the store can be read. Clocks of two machines are never compared to end a job.
"""

from __future__ import annotations

import time

from . import keys, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional


class OwnerLease:
    """The owner of the job, as the store shows it. Without a lease in the spec it never leaves."""

    def __init__(self, master: store.StoreConnection, spec: Dict[str, Any]) -> None:
        self._master = master
        self.lease: Optional[float] = spec["owner_lease"]
        self._key = keys.lease_key(spec["id"], spec["nonce"])
        self._seen: Optional[str] = None
        self._changed = self._next = time.monotonic()

    @property
    def sentence(self) -> str:
        return "nobody has renewed its owner's lease for %g s, so it was ended" % (self.lease or 0)

    def has_left(self) -> bool:
        """Whether the lease has lapsed. It reads the store a few times per lease, however often it is called."""
        now = time.monotonic()
        if self.lease is None or now < self._next:
            return False
        self._next = now + self.lease / 5
        try:
            text = self._master.get(self._key)
        except store.StoreError:
            text = None
        # A store that is down answers with nothing. Only a readable value that does not change is a sign.
        if text is None or text != self._seen:
            self._seen, self._changed = text, now
        return now - self._changed > self.lease

    def is_here(self, asked: Callable[[], int]) -> bool:
        """Check before the start. False: the last renewal looks old, and no other one comes for the length of the lease."""
        if self.lease is None or self._looks_fresh():
            return True
        first = self._seen
        begun = self._changed = time.monotonic()
        while not asked() and time.monotonic() - begun <= self.lease:
            time.sleep(min(0.5, self.lease / 10))
            self._next = 0.0
            self.has_left()
            if self._seen != first:
                return True
        return bool(asked())

    def _looks_fresh(self) -> bool:
        import json

        try:
            self._seen = self._master.get(self._key)
            return self._seen is None or time.time() - float(json.loads(self._seen)["renewed_at"]) <= (
                self.lease or 0
            )
        except (store.StoreError, ValueError, KeyError, TypeError):
            return True
