"""The spool: a queue of output on its way to the store, in memory up to a limit and beyond it in a file.

While the store is down, the user's code must not wait, no output may be lost, and the launcher's memory must not grow.
"""

from __future__ import annotations

import _thread
import os

from . import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional


_FULL = b"\n[titan-runtime] the log has reached its limit of %d bytes; what the job printed after that is left out\n"


class Spool:
    """A queue of bytes between two threads: the pump fills it, the shipper empties it."""

    def __init__(self, overflow: str) -> None:
        self._path = overflow
        self._lock = _thread.allocate_lock()
        self._pieces: List[bytes] = []
        self._held = 0
        self._file: Optional[int] = None
        self._read = self._written = 0
        self._taken = 0
        self.dropped = 0
        """The number of bytes that were lost because the disk was full."""

    @property
    def size(self) -> int:
        """The number of waiting bytes."""
        return self._held + self._written - self._read

    def put(self, data: bytes) -> None:
        if limits.LOG_LIMIT:
            room = max(int(limits.LOG_LIMIT) - self._taken, 0)
            full, self._taken = self._taken > limits.LOG_LIMIT, self._taken + len(data)
            if full:
                return
            if len(data) > room:
                data = data[:room] + _FULL % int(limits.LOG_LIMIT)
        with self._lock:
            if self._file is None and self._held + len(data) <= limits.SPOOL_MEMORY:
                self._pieces.append(data)
                self._held += len(data)
                return
            try:
                self._spill(data)
            except OSError:
                self.dropped += len(data)

    def _spill(self, data: bytes) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.unlink(self._path)
            self._read = self._written = 0
        done = 0
        while done < len(data):
            done += os.pwrite(self._file, data[done:], self._written + done)
        self._written += done

    def take(self, limit: int) -> bytes:
        """Up to `limit` bytes, oldest first; empty when nothing waits."""
        with self._lock:
            if not self._pieces:
                return self._take_spilled(limit)
            taken: List[bytes] = []
            while self._pieces and limit > 0:
                piece = self._pieces.pop(0)
                if len(piece) > limit:
                    self._pieces.insert(0, piece[limit:])
                    piece = piece[:limit]
                taken.append(piece)
                limit -= len(piece)
            data = b"".join(taken)
            self._held -= len(data)
            return data

    def _take_spilled(self, limit: int) -> bytes:
        if self._file is None:
            return b""
        data = os.pread(self._file, min(limit, self._written - self._read), self._read)
        self._read += len(data)
        if self._read == self._written:
            os.close(self._file)
            self._file = None
            self._read = self._written = 0
        return data
