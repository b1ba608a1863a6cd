"""Requests of our extension opcodes (docs/protocol.md). Flows send them only if the master has announced the feature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from titan_sdk.errors import CorruptData, NotFound, PeerProtocolError, RequestRefused
from titan_sdk.model.listing import JobChanges, ListPage
from titan_sdk.model.report import JobDetails
from titan_sdk.model.rules import full_id
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.calls import Call, check_store
from titan_sdk.wire.extensions import (
    MAX_WAIT_SECONDS,
    AssetRead,
    AssetWrite,
    Fields,
    JobInfo,
    LogRead,
    StoreSwap,
    Submit,
    Wait,
    read_object,
    split_content,
    write_object,
)
from titan_sdk.wire.fields import decode_value, encode_key, encode_value
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.jobs import JobLine, encode_dag
from titan_sdk.wire.listing import Changes, List, read_job
from titan_sdk.wire.opcodes import Opcode

__all__ = [
    "ContentChunk",
    "LogPiece",
    "RunReport",
    "WaitAnswer",
    "asset_delete",
    "asset_read",
    "asset_write",
    "changes",
    "job_info",
    "list_page",
    "log_read",
    "store_delete",
    "store_expire",
    "store_keys",
    "store_swap",
    "submit",
    "wait",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ContentChunk:
    """A piece of an artifact, with the size and checksum of the whole."""

    content: bytes
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A piece of a job's log as the master keeps it."""

    text: str
    next_offset: int
    ended: bool


@dataclass(frozen=True, slots=True)
class RunReport:
    """What the master stores about the run of a submission."""

    nonce: str | None
    """``None`` for a job without the runtime."""
    record: str | None
    """The runtime's record, as text."""
    tail: str | None = None
    """The end of the master's log of a dead job."""


@dataclass(frozen=True, slots=True)
class WaitAnswer:
    """The states and reports of jobs, by full id."""

    states: dict[str, JobStatus]
    reports: dict[str, RunReport] = field(default_factory=dict)


def submit(
    lines: Sequence[JobLine], mark: str, values: Mapping[str, str]
) -> Call[tuple[str, JobStatus] | None]:
    """Submit a DAG. Returns ``None`` if the master took it, else the id that is still in use, with its state."""
    stored = {encode_key(key): encode_value(value) for key, value in values.items()}
    request = Submit(encode_key(mark), stored, encode_dag(lines))

    def taken(fields: Fields) -> tuple[str, JobStatus] | None:
        if fields.want("taken", bool):
            return None
        return fields.want("id", str), JobStatus.from_wire(fields.want("state", str))

    return Call(
        "submit_dag",
        Opcode.SUBMIT,
        request.encode(),
        _reader("submit_dag", taken),
        with_id=False,
        feature="submit",
        advice="split the DAG, or send large inputs with upload_file",
    )


def wait(
    job_ids: Iterable[str],
    seconds: float,
    *,
    every: bool = False,
    reports: Mapping[str, str | None] | None = None,
) -> Call[WaitAnswer]:
    """The states of all the jobs, once one (with ``every``: each) is terminal, or ``seconds`` have passed.

    Args:
        reports: the jobs whose records the answer includes; see ``Wait``.
    """
    request = Wait(tuple(map(full_id, job_ids)), min(seconds, MAX_WAIT_SECONDS), every, reports or {})

    def answer(fields: Fields) -> WaitAnswer:
        states = {
            job_id: JobStatus.from_wire(str(word)) for job_id, word in fields.want("states", dict).items()
        }
        found = Fields(fields.may("reports", dict) or {})
        return WaitAnswer(states, {job_id: _report(Fields(found.want(job_id, dict))) for job_id in found})

    return Call("wait", Opcode.WAIT, request.encode(), _reader("wait", answer), changes=False)


def _report(fields: Fields) -> RunReport:
    record = fields.may("record", str)
    return RunReport(
        fields.may("nonce", str),
        None if record is None else decode_value(record),
        fields.may("tail", str),
    )


def job_info(job_id: str) -> Call[JobDetails]:
    """What the master knows of the job."""

    def details(fields: Fields) -> JobDetails:
        return JobDetails(
            job_id=job_id,
            state=JobStatus.from_wire(fields.want("state", str)),
            reason=fields.may("reason", str),
            attempts=fields.want("attempts", int),
            worker=fields.may("worker", str),
            exit_code=fields.may("exit_code", int),
            submitted_at=fields.want("submitted_at", float),
            started_at=fields.may("started_at", float),
            ended_at=fields.may("ended_at", float),
            ahead=fields.may("ahead", int),
            stopping=bool(fields.may("stopping", bool)),
            history=tuple((float(at), str(text)) for at, text in fields.want("history", list)),
        )

    payload = JobInfo(full_id(job_id)).encode()
    return Call("job_info", Opcode.JOB_INFO, payload, _reader("job_info", details), changes=False)


def log_read(job_id: str, offset: int, nonce: str | None = None, until: int | None = None) -> Call[LogPiece]:
    """The master's log from byte ``offset`` to byte ``until``."""

    def piece(fields: Fields) -> LogPiece:
        return LogPiece(fields.want("text", str), fields.want("next", int), fields.want("ended", bool))

    request = LogRead(full_id(job_id), offset, nonce, until)
    return Call("fetch_logs", Opcode.LOG_READ, request.encode(), _reader("fetch_logs", piece), changes=False)


def list_page(operation: str, request: List, read: Callable[[Fields], T]) -> Call[ListPage[T]]:
    """A page of a list. ``read`` turns a JSON object into an item."""

    def page(fields: Fields) -> ListPage[T]:
        return ListPage(
            _each(fields, "items", read),
            fields.may("cursor", str),
            fields.may("total", int),
            fields.may("changes", str),
        )

    return Call(operation, Opcode.LIST, request.encode(), _reader(operation, page), changes=False)


def changes(cursor: str | None, seconds: float) -> Call[JobChanges]:
    """The jobs that have changed since the cursor. The master answers at the first change, or after ``seconds``."""

    def read(fields: Fields) -> JobChanges:
        return JobChanges(
            _each(fields, "jobs", read_job),
            fields.texts("removed"),
            fields.want("cursor", str),
            fields.want("again", bool),
        )

    request = Changes(cursor, min(seconds, MAX_WAIT_SECONDS))
    return Call("changes", Opcode.CHANGES, request.encode(), _reader("changes", read), changes=False)


def _each(fields: Fields, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
    return tuple(read(Fields(item)) for item in fields.want(name, list))


def asset_write(chunk: AssetWrite) -> Call[int]:
    """Write one chunk. Returns the bytes that the master then holds. Only the last chunk changes what others see."""
    name = f"upload of {chunk.name!r}"
    is_last = chunk.sha256 is not None
    return Call(
        name,
        Opcode.ASSET_WRITE,
        chunk.encode(),
        _reader(name, lambda found: found.want("size", int)),
        with_id=is_last,
        repeatable=not is_last,
    )


def asset_read(name: str, offset: int, sha256: str = "") -> Call[ContentChunk]:
    """One chunk of an artifact; ``sha256`` selects the version."""
    operation = f"fetch of {name!r}"

    def read(frame: Frame) -> ContentChunk:
        _check(operation, frame, "the master has no artifact of that name")
        fields, content = split_content(frame.payload)
        return ContentChunk(content, fields.want("size", int), fields.want("sha256", str))

    return Call(operation, Opcode.ASSET_READ, AssetRead(name, offset, sha256).encode(), read, changes=False)


def asset_delete(name: str) -> Call[bool]:
    """Whether there was such an artifact."""
    return Call(
        f"delete_artifact {name!r}",
        Opcode.ASSET_DELETE,
        write_object(name=name),
        _reader("delete_artifact", lambda found: found.want("deleted", bool)),
    )


def store_delete(key: str) -> Call[bool]:
    """Whether the key was there."""
    payload = write_object(key=encode_key(key))
    return Call(
        f"store_delete {key!r}",
        Opcode.STORE_DELETE,
        payload,
        _reader("store_delete", lambda found: found.want("deleted", bool)),
    )


def store_keys(prefix: str, after: str = "") -> Call[tuple[list[str], bool]]:
    """The keys with the prefix that follow the key ``after``, in order, and whether there are more."""

    def read(fields: Fields) -> tuple[list[str], bool]:
        return list(fields.texts("keys")), fields.want("more", bool)

    return Call(
        f"store_keys {prefix!r}",
        Opcode.STORE_KEYS,
        write_object(prefix=prefix, after=after),
        _reader("store_keys", read),
        changes=False,
    )


def store_swap(key: str, expected: str | None, value: str | None) -> Call[bool]:
    """Whether the key held ``expected`` and now holds ``value``."""
    encode = encode_value
    request = StoreSwap(
        encode_key(key),
        None if expected is None else encode(expected),
        None if value is None else encode(value),
    )
    return Call(
        f"store_swap {key!r}",
        Opcode.STORE_SWAP,
        request.encode(),
        _reader("store_swap", lambda found: found.want("swapped", bool)),
    )


def store_expire(key: str, seconds: float) -> Call[bool]:
    """Delete the key after ``seconds``. Returns whether the key exists."""
    return Call(
        f"store_expire {key!r}",
        Opcode.STORE_EXPIRE,
        write_object(key=encode_key(key), seconds=seconds),
        _reader("store_expire", lambda found: found.want("set", bool)),
    )


def _reader(operation: str, read: Callable[[Fields], T]) -> Callable[[Frame], T]:
    def read_reply(frame: Frame) -> T:
        _check(operation, frame)
        try:
            return read(read_object(frame.text))
        except (PeerProtocolError, TypeError, ValueError, OverflowError) as exc:
            raise PeerProtocolError(f"{operation}: the master's reply cannot be read: {exc}") from exc

    return read_reply


def _check(operation: str, frame: Frame, absent: str = "the master has nothing of that name") -> None:
    """Raise for a failure. Replies begin with a brace, so the opcode alone tells a failure."""
    if frame.opcode != Opcode.ERROR:
        return
    text = frame.text
    if text.startswith("ERROR_NOT_FOUND"):
        raise NotFound(f"{operation}: {absent}", detail=text)
    check_store(operation, text)
    if text.startswith("ERROR: checksum"):
        raise CorruptData(f"{operation}: the master received other bytes than were sent; try again ({text})")
    raise RequestRefused(
        f"{operation}: the master refused: {text.removeprefix('ERROR:').strip()}", detail=text
    )
