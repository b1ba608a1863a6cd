"""Submissions that were acknowledged and wait for the database: a file to which one line each is appended.

A transaction costs several times what an append does, and most of what is submitted waits for its turn anyway. So a
submission is safe once its line is here, and goes into the database with what comes next, or with others a moment
later. A master that is killed in between leaves the lines to the next one.

Of a power cut the same is true as of the database (``schema``): what the operating system had not written is lost.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from titan_sdk.cluster.store.base import StoreFailed
from titan_sdk.cluster.store.changes import Change, InsertJobs
from titan_sdk.cluster.store.rows import NewJob
from titan_sdk.cluster.store.sqlite import jobs
from titan_sdk.errors import TitanError

__all__ = ["Spool"]

log = logging.getLogger(__name__)

_ENOUGH = 256 * 1024
"""Bytes of lines whose jobs are in the database after which the file is emptied."""
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Spool:
    """Implements ``Ahead``.

    Raises:
        TitanError: the file cannot be opened, or what is in it not be stored.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise TitanError(f"cannot open {path}, where the master keeps new submissions: {exc}") from exc
        self._path = path
        self.size = os.fstat(self._fd).st_size
        """Bytes in the file."""
        self._torn = False
        if self.size:
            try:
                self._restore(db)
            except sqlite3.IntegrityError as exc:
                os.close(self._fd)
                raise TitanError(
                    f"the submissions in {path} do not fit the database beside it ({exc}): one of the two was restored from a "
                    "copy, or used by another version; move the file away to go on without them"
                ) from exc
            except (OSError, sqlite3.Error) as exc:
                os.close(self._fd)
                raise TitanError(
                    f"cannot store the submissions in {path}: {exc}; make room on the disk, or give another data_dir"
                ) from exc

    def add(self, change: Change) -> bool:
        """See ``Ahead``."""
        assert isinstance(change, InsertJobs)
        if self._torn:
            return False
        rows = [
            (job.job_id, job.seq, job.line, job.parents, job.service, job.submitted_at, job.due)
            for job in change.jobs
        ]
        try:
            line = _dump(rows).encode() + b"\n"
            written = os.write(self._fd, line)
        except (OSError, UnicodeError) as exc:
            # UnicodeError: half of a surrogate pair, which no text file can hold.
            reason = exc.strerror if isinstance(exc, OSError) else exc
            raise StoreFailed(f"{self._path}: {reason}") from exc
        if written < len(line):
            self._cut()
            raise StoreFailed(f"{self._path}: {os.strerror(errno.ENOSPC)}")
        self.size += written
        return True

    def stored(self) -> None:
        """See ``Ahead``."""
        if self.size > _ENOUGH or self._torn:
            self.clear()

    def clear(self) -> None:
        """Forget all lines; their jobs are in the database, so that they would only be skipped."""
        if not self.size and not self._torn:
            return
        try:
            os.ftruncate(self._fd, 0)
        except OSError as exc:
            log.warning("cannot empty %s: %s", self._path, exc)
        else:
            self.size, self._torn = 0, False

    def close(self) -> None:
        os.close(self._fd)

    def _cut(self) -> None:
        """Take half a line away, to which the next one would be appended."""
        try:
            os.ftruncate(self._fd, self.size)
        except OSError as exc:
            log.warning("cannot shorten %s: %s", self._path, exc)
            self._torn = True

    # ------------------------------------------------------------------ after a kill

    def _restore(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            for job in self._read():
                # Its row, or that of a later submission of its id, which took its place.
                query = "SELECT 1 FROM jobs WHERE job_id = ? AND seq >= ?"
                if db.execute(query, (job.job_id, job.seq)).fetchone() is None:
                    jobs.insert(db, InsertJobs((job,)))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self.clear()
        # Where that failed, nothing can be appended to half a line.
        self._torn = self.size > 0 and os.pread(self._fd, 1, self.size - 1) != b"\n"

    def _read(self) -> Iterator[NewJob]:
        for number, line in enumerate(os.pread(self._fd, self.size, 0).splitlines(keepends=True), 1):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("its end is missing")
                found = [
                    NewJob(job_id, seq, text, tuple((str(p), int(n)) for p, n in parents), *rest)
                    for job_id, seq, text, parents, *rest in json.loads(line)
                ]
            except (ValueError, TypeError):
                # Begun when the master was killed, so nobody was told that it was taken; or lost with the power.
                log.warning("line %d of %s is not whole: left out", number, self._path)
                continue
            yield from found
