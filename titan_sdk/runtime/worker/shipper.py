"""The shipper: the thread that writes to the store while the user's code runs. It writes heartbeats, progress, and log
chunks if the master does not keep the log.

A failing store does not affect the job: chunks stay spooled and are sent again. The shipper ends the job only if the
record has another copy's token, which has then taken over.
"""

from __future__ import annotations

import _thread
import os
import time

from . import guard, heart, limits, outcome, processes, store
from .c_modules import dumps
from .chunks import Chunker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional, Tuple

    from .jobdir import JobDir
    from .owner_lease import OwnerLease
    from .record import Record
    from .spool import Spool


class Shipper:
    """The thread owns the record between `start` and the end of `finish`."""

    def __init__(
        self,
        master: store.StoreConnection,
        record: Record,
        spool: Optional[Spool],
        place: JobDir,
        owner: OwnerLease,
        tell: Callable[[bytes], None],
        abandoned: Callable[[], None],
    ) -> None:
        self._master, self._record, self._spool, self._place = master, record, spool, place
        self._owner, self._tell, self._on_abandoned = owner, tell, abandoned
        self.overtaken = self.cancelled = False
        self._chunker = Chunker()
        self._pending: Optional[str] = None
        self._retry_at = self._retry_pause = 0.0
        self._heart = heart.Heart(master, record)
        self._progress_seen: Optional[Tuple[int, int]] = None
        self._until: Optional[Callable[[], float]] = None
        self._error: Optional[str] = None
        # Locks serve as events: one wakes the thread, the other tells that it has ended.
        self._wake = _thread.allocate_lock()
        self._wake.acquire()
        self._done = _thread.allocate_lock()
        self._done.acquire()
        self._is_started = False

    def start(self) -> None:
        self._is_started = True
        processes.patiently(lambda: _thread.start_new_thread(self._run, ()))

    def go_on(self) -> None:
        """Say that this attempt is alive from now on, if that has not begun yet."""
        if not self._is_started:
            self.start()

    def finish(self, until: Callable[[], float]) -> Optional[str]:
        """Ship the rest until the time `until()`. None: the store has all output. Otherwise the reason why not."""
        self._until = until
        if not self._is_started:
            self._drain()
            return self._error
        self._wake.release()
        while not self._done.acquire(timeout=1.0):
            if time.monotonic() > until() + limits.REPLY_TIMEOUT:
                return "master %s keeps a connection open without answering" % self._master.address
        return self._error

    def _run(self) -> None:
        try:
            if self._master.trusted:
                # The claim has already recorded the start.
                self._heart.due_at = time.monotonic() + limits.HEARTBEAT
            else:
                self._beat(first=True)
            while self._until is None:
                if self._wake.acquire(timeout=limits.FLUSH_EVERY):
                    break
                self._ship(final=False)
                self._beat(first=False)
                if self._owner.has_left():
                    self._on_abandoned()
            self._drain()
        except Exception as exc:
            self._error = "%s: %s" % (type(exc).__name__, exc)
            raise
        finally:
            self._done.release()

    def _drain(self) -> None:
        until = self._until
        assert until is not None
        while not self.overtaken:
            if self._ship(final=True):
                self._error = None
                return
            if time.monotonic() >= until():
                return
            time.sleep(min(0.1, max(self._retry_at - time.monotonic(), 0.0)))

    def _ship(self, final: bool) -> bool:
        """Send the waiting chunks. False: the store failed, and the reason is kept."""
        if self._spool is None:
            return True
        if time.monotonic() < self._retry_at:
            return False
        while self._pending is not None or self._cut(final):
            assert self._pending is not None
            try:
                index = self._record.fields["log_chunks"]
                self._master.confirm(self._record.log_key(index), self._pending)
            except (store.StoreError, store.Contended) as exc:
                self._error = str(exc)
                self._retry_pause = min(max(self._retry_pause * 2, 0.1), 5.0)
                self._retry_at = time.monotonic() + self._retry_pause
                return False
            self._record.update(log_chunks=index + 1)
            self._pending = None
            self._retry_pause = 0.0
        return True

    def _cut(self, final: bool) -> bool:
        """Make the next chunk. False: there is nothing to ship yet."""
        spool = self._spool
        assert spool is not None
        while True:
            data = spool.take(limits.CHUNK)
            text = self._chunker.next(data, final and not spool.size)
            if final and not spool.size and spool.dropped:
                text += limits.OUTPUT_LOST % spool.dropped
                spool.dropped = 0
            if text:
                self._pending = dumps({"v": 1, "attempt": self._record.attempt, "text": text})
                return True
            if not data:
                return False

    def _beat(self, first: bool) -> None:
        """Write a heartbeat, when it is due or when there is new progress."""
        now = time.monotonic()
        progressed = self._read_progress()
        if now < self._heart.due_at and not progressed and not first:
            return
        heard = self._heart.beat(first)
        if heard == heart.OVERTAKEN:
            self.overtaken = True
            self._tell(guard.KILL)
        elif heard == heart.CANCELLED:
            self.cancelled = True
            self._tell(guard.STOP)

    def _read_progress(self) -> bool:
        path = self._place.path("progress.json")
        try:
            stat = os.stat(path)
        except OSError:
            return False
        mark = (stat.st_mtime_ns, stat.st_ino)
        if mark == self._progress_seen:
            return False
        self._progress_seen = mark
        progress = outcome.read_progress(path)
        if progress is not None:
            self._record.update(progress=progress)
        return progress is not None
