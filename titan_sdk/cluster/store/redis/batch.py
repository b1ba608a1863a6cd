"""Changes to Redis operations: one batch is one atomic step. Rows are computed here, from what is durable."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any

from titan_sdk.cluster.store import changes
from titan_sdk.cluster.store.redis.link import Link
from titan_sdk.cluster.store.redis.mirror import Mirror, can_go, encode, needs_line
from titan_sdk.cluster.store.rows import KEPT_HISTORY, JobRow, NewJob, Service
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.once import RequestId

__all__ = ["Batch"]

_SLICE = 500
"""Fields in one command: Lua's stack takes some thousands of values."""
_LONGEST_MS = 4_000_000_000_000


class Batch:
    """Add entries, send ``words()``, and ``apply`` once that is done.

    Args:
        now: when what it writes is written.
    """

    def __init__(self, mirror: Mirror, link: Link, now: float) -> None:
        self._mirror = mirror
        self._key = link.key
        self._now = now
        self._rows: dict[str, JobRow | None] = {}
        """Rows as they will be; ``None``: gone."""
        self._ids: dict[int, str] = {}
        self._lines: dict[int, str | None] = {}
        self._words: list[Any] = [2, "@now", f"{now * 1000:.0f}"]
        self._before: tuple[Any, ...] = ()
        """What stands in front of an operation that is carried out once."""
        self._results = 0

    def add(self, entry: Iterable[changes.Change]) -> int | None:
        """The index of the entry's result; ``None`` if it has none.

        Raises:
            UnicodeError: a text cannot be stored; nothing was added of an entry of one change.
        """
        index = None
        for change in entry:
            before = self._results
            _APPLY[type(change)](self, change)
            index = before if self._results > before else None
        return index

    def words(self) -> list[Any]:
        """The operations, as the script takes them."""
        for job_id, row in self._rows.items():
            self._write_row(job_id, row)
        for start in range(
            0, len(texts := [item for item in self._lines.items() if item[1] is not None]), _SLICE
        ):
            fields = [
                field for seq, text in texts[start : start + _SLICE] for field in (seq, (text or "").encode())
            ]
            self._op("HSET", self._key("lines"), *fields)
        gone = [seq for seq, text in self._lines.items() if text is None]
        for start in range(0, len(gone), _SLICE):
            self._op("HDEL", self._key("lines"), *gone[start : start + _SLICE])
        return self._words

    def apply(self) -> None:
        """It is durable."""
        for job_id, row in self._rows.items():
            if row is None:
                self._mirror.forget(job_id)
            else:
                self._mirror.keep(row)
        for seq, text in self._lines.items():
            if text is None:
                self._mirror.lines.pop(seq, None)
            else:
                self._mirror.lines[seq] = text

    # ------------------------------------------------------------------ parts

    def _op(self, *words: Any) -> None:
        self._words += (len(words), *words)

    def _result(self, *words: Any) -> None:
        self._op(*self._before, *words)
        self._results += 1

    def _row(self, job_id: str) -> JobRow | None:
        return self._rows[job_id] if job_id in self._rows else self._mirror.job(job_id)

    def _update(self, seq: int, change: Callable[[JobRow], JobRow]) -> None:
        job_id = self._ids.get(seq) or self._mirror.ids.get(seq)
        row = None if job_id is None else self._row(job_id)
        if row is not None and row.seq == seq:
            self._set(change(row))

    def _set(self, row: JobRow) -> None:
        self._rows[row.job_id] = row
        self._ids[row.seq] = row.job_id
        if not needs_line(row):
            self._lines[row.seq] = None

    def _write_row(self, job_id: str, row: JobRow | None) -> None:
        field = job_id.encode()
        if row is None:
            self._op("HDEL", self._key("jobs"), field)
            self._op("ZREM", self._key("ended"), field)
            return
        self._op("HSET", self._key("jobs"), field, encode(row))
        before = self._mirror.job(job_id)
        if can_go(row):
            self._op("ZADD", self._key("ended"), repr(row.ended_at or 0.0), field)
        elif before is not None and can_go(before):
            self._op("ZREM", self._key("ended"), field)

    # ------------------------------------------------------------------ submissions

    def insert(self, change: changes.InsertJobs) -> None:
        texts = [(job.seq, job.line) for job in change.jobs]
        for _, text in texts:
            text.encode()  # all or nothing: before anything is changed here
        self._link_all(change.jobs)
        self._lines.update(texts)

    def _link_all(self, jobs: Iterable[NewJob]) -> None:
        for job in jobs:
            old = self._row(job.job_id)
            if old is not None:
                self._lines[old.seq] = None
                self._op("LTRIM", self._key(f"history:{job.job_id}"), -KEPT_HISTORY, -1)
                self._op("DEL", *(self._key(f"{kind}:{job.job_id}") for kind in ("log", "logmarks")))
            fresh = (JobStatus.PENDING, job.parents, 0, None, None, None, None, None)
            self._set(
                JobRow(job.job_id, job.seq, *fresh, int(job.service), job.submitted_at, job.due, None, None)
            )
            self.history(changes.AddHistory(job.job_id, job.seq, job.submitted_at, "submitted", ""))

    # ------------------------------------------------------------------ a job's life

    def running(self, change: changes.SetRunning) -> None:
        def run(row: JobRow) -> JobRow:
            return dataclasses.replace(
                row,
                status=row.status if row.service == Service.LIVE else JobStatus.RUNNING,
                worker=change.worker,
                run=change.run,
                handle=change.handle,
                attempts=change.attempt,
                started_at=change.at,
            )

        self._update(change.seq, run)

    def placed(self, change: changes.SetPlaced) -> None:
        self._update(
            change.seq, lambda row: dataclasses.replace(row, worker=change.worker, started_at=change.at)
        )

    def pending(self, change: changes.SetPending) -> None:
        self._update(
            change.seq,
            lambda row: dataclasses.replace(
                row,
                status=JobStatus.PENDING,
                handle=None,
                attempts=change.attempts,
                exit_code=change.exit_code,
            ),
        )

    def ended(self, change: changes.SetEnded) -> None:
        self._update(
            change.seq,
            lambda row: dataclasses.replace(
                row,
                status=change.status,
                exit_code=change.exit_code,
                reason=change.reason,
                ended_at=change.at,
                handle=None if change.gone else row.handle,
            ),
        )

    def gone(self, change: changes.SetGone) -> None:
        self._update(
            change.seq, lambda row: dataclasses.replace(row, handle=None) if row.run == change.run else row
        )

    def forget_handles(self, _: changes.ForgetHandles) -> None:
        for seq in {*self._mirror.ids, *self._ids}:
            self._update(seq, lambda row: dataclasses.replace(row, handle=None))

    def service(self, change: changes.SetService) -> None:
        self._update(change.seq, lambda row: dataclasses.replace(row, service=change.state))

    def history(self, change: changes.AddHistory) -> None:
        row = self._row(change.job_id)
        if row is None or row.seq != change.seq:
            return  # of a submission that was refused, or has given way to a later one of its id
        entry = json.dumps([change.at, change.event, change.detail], separators=(",", ":"))
        self._op("RPUSH", self._key(f"history:{change.job_id}"), entry.encode("ascii"))

    def forget(self, change: changes.ForgetJobs) -> None:
        for job_id, seq in change.jobs:
            row = self._row(job_id)
            if row is not None and row.seq == seq:
                self._rows[job_id] = None
                self._lines[seq] = None
                self._op("DEL", *(self._key(f"{kind}:{job_id}") for kind in ("history", "log", "logmarks")))

    # ------------------------------------------------------------------ values and sets, logs

    def put(self, change: changes.Put) -> None:
        self._result("@put", change.key.encode(), change.value.encode())

    def swap(self, change: changes.Swap) -> None:
        expected = b"" if change.expected is None else change.expected.encode()
        value = b"" if change.value is None else change.value.encode()
        expects, sets = int(change.expected is not None), int(change.value is not None)
        self._result("@swap", change.key.encode(), expects, expected, sets, value)

    def member(self, change: changes.AddMember) -> None:
        self._result("@add", change.key.encode(), change.member.encode())

    def remove_member(self, change: changes.RemoveMember) -> None:
        self._result("@remove", change.key.encode(), change.member.encode())

    def delete(self, change: changes.Delete) -> None:
        self._result("@delete", change.key.encode())

    def expire(self, change: changes.Expire) -> None:
        ms = int(min(max(change.seconds * 1000, 1), _LONGEST_MS))
        self._result("@expire", change.key.encode(), ms)

    def sweep(self, _: changes.Sweep) -> None:
        self._result("@sweep")

    # ------------------------------------------------------------------ requests that may arrive twice

    def once(self, change: changes.Once) -> None:
        self._before = ("@once", *_request(change.request))
        _APPLY[type(change.change)](self, change.change)
        self._before = ()

    def begin(self, change: changes.Begin) -> None:
        self._result("@begin", *_request(change.request))

    def remember(self, change: changes.Remember) -> None:
        self._result("@remember", *_request(change.request), change.reply.encode())

    def note(self, change: changes.AddNote) -> None:
        self._result("@note", change.job_id.encode(), change.line, change.cap)

    def log(self, change: changes.AppendLog) -> None:
        job_id, run = change.job_id.encode(), change.run.encode()
        self._result("@log", job_id, run, change.offset, change.data, change.cap)


def _request(request: RequestId) -> tuple[Any, ...]:
    return request.channel, request.number, request.mark


_APPLY: dict[type, Callable[[Batch, Any], None]] = {
    changes.InsertJobs: Batch.insert,
    changes.SetRunning: Batch.running,
    changes.SetPlaced: Batch.placed,
    changes.SetPending: Batch.pending,
    changes.SetEnded: Batch.ended,
    changes.SetGone: Batch.gone,
    changes.ForgetHandles: Batch.forget_handles,
    changes.SetService: Batch.service,
    changes.AddHistory: Batch.history,
    changes.ForgetJobs: Batch.forget,
    changes.Put: Batch.put,
    changes.Swap: Batch.swap,
    changes.AddMember: Batch.member,
    changes.RemoveMember: Batch.remove_member,
    changes.Delete: Batch.delete,
    changes.Expire: Batch.expire,
    changes.Sweep: Batch.sweep,
    changes.Once: Batch.once,
    changes.Begin: Batch.begin,
    changes.Remember: Batch.remember,
    changes.AddNote: Batch.note,
    changes.AppendLog: Batch.log,
}
