"""The stored form of job rows in Redis, and a commit as arguments of the script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from titan_sdk.cluster.store import changes
from titan_sdk.cluster.store.job_table import fresh, is_settled
from titan_sdk.cluster.store.journal import Batch
from titan_sdk.cluster.store.redis.client import text_bytes
from titan_sdk.cluster.store.rows import KEPT_HISTORY, HistoryRow, JobRow
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.exactly_once import RequestId

__all__ = ["decode", "encode", "words_of"]

_SLICE = 500
"""The most history entries of one operation: Lua's stack takes some thousands of values."""
_LONGEST_MS = 4_000_000_000_000
_KEPT_MS = int(changes.REQUEST_SECONDS * 1000)


def encode(row: JobRow) -> bytes:
    """The stored form of a row."""
    columns = [
        row.seq,
        row.status,
        row.parents,
        row.attempts,
        row.worker,
        row.run,
        row.handle,
        row.exit_code,
        row.reason,
        row.service,
        row.submitted_at,
        row.due,
        row.started_at,
        row.ended_at,
        row.tag,
        row.dag,
        row.dag_run,
    ]
    return json.dumps(columns, separators=(",", ":")).encode("ascii")


def decode(job_id: str, stored: bytes) -> JobRow:
    """The row of a stored form."""
    seq, status, parents, *rest = json.loads(stored)
    pairs = tuple((str(parent), int(number)) for parent, number in parents)
    return JobRow(job_id, seq, JobStatus(status), pairs, *rest)


def words_of(batch: Batch) -> list[Any]:
    """A commit's operations, each as the number of its arguments and the arguments.

    Raises:
        Unstorable: a text has a lone surrogate.
    """
    words: list[Any] = []
    for operation in _operations(batch):
        words += (len(operation), *operation)
    return words


def _operations(batch: Batch) -> Iterator[tuple[Any, ...]]:
    for seq in batch.changed_before:
        yield from _saved(batch, seq)
    for job in batch.inserts:
        submitted = _entry(HistoryRow(job.submitted_at, "submitted", ""))
        row = encode(fresh(job))
        yield "new", text_bytes(job.job_id), job.seq, row, text_bytes(job.line), submitted, KEPT_HISTORY
    if batch.inserts:
        yield "newest", max(job.seq for job in batch.inserts)
    for seq in batch.changed_new:
        yield from _saved(batch, seq)
    for job_id, seq in batch.forgets:
        yield "forget", text_bytes(job_id), seq
    yield from map(_operation, batch.operations)


def _saved(batch: Batch, seq: int) -> Iterator[tuple[Any, ...]]:
    row = batch.row(seq)
    if row is None:
        return
    job_id = text_bytes(row.job_id)
    if seq in batch.rows:
        settled = is_settled(row)
        yield (
            ("settled", job_id, seq, encode(row), repr(row.ended_at or 0.0))
            if settled
            else (
                "active",
                job_id,
                encode(row),
            )
        )
    added = batch.history.get(seq, [])
    for start in range(0, len(added), _SLICE):
        yield "history", job_id, *map(_entry, added[start : start + _SLICE])


def _entry(row: HistoryRow) -> bytes:
    return json.dumps([row.at, row.event, row.detail], separators=(",", ":")).encode("ascii")


def _operation(change: changes.Operation) -> tuple[Any, ...]:
    match change:
        case changes.Once():
            return "once", *_request(change.request), *_value(change.change)
        case changes.Begin():
            return "begin", *_request(change.request)
        case changes.Remember():
            return "remember", *_request(change.request), text_bytes(change.reply)
        case changes.AddNote():
            return "note", text_bytes(change.job_id), change.line, change.cap
        case changes.AppendLog():
            return "log", *_bytes(change.job_id, change.run), change.offset, change.data, change.cap
        case _:
            return _value(change)


def _value(change: changes.ValueChange) -> tuple[Any, ...]:
    match change:
        case changes.Put():
            return "put", *_bytes(change.key, change.value)
        case changes.Swap():
            expected, value = _bytes(change.expected or "", change.value or "")
            expects, sets = int(change.expected is not None), int(change.value is not None)
            return "swap", text_bytes(change.key), expects, expected, sets, value
        case changes.AddMember():
            return "add", *_bytes(change.key, change.member)
        case changes.RemoveMember():
            return "remove", *_bytes(change.key, change.member)
        case changes.Delete():
            return "delete", text_bytes(change.key)
        case changes.Expire():
            return "expire", text_bytes(change.key), int(min(max(change.seconds * 1000, 1), _LONGEST_MS))
        case changes.Sweep():
            return ("sweep",)


def _bytes(*texts: str) -> Iterable[bytes]:
    return map(text_bytes, texts)


def _request(request: RequestId) -> tuple[Any, ...]:
    return request.channel, request.number, request.mark, _KEPT_MS
